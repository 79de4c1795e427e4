"""The description of the models' routes says what the routes take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from mlops_assets.serving.api_description import api_description, api_page
from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.predictor import Predictor
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Predictor:
    """A model that doubles x."""
    signature = write_artifact(tmp_path / "1")
    return Predictor("m", ServedVersion(folder="1", sha256=signature.sha256, version="1"), tmp_path / "1")


def content(model: Predictor, path: str) -> dict[str, object]:
    described = api_description([model])
    assert described["openapi"] == "3.1.0"
    return described["paths"][path]["post"]["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize("path", ["/v1/models/m:predict", "/v2/models/m/infer"])
def test_the_example_of_a_route_fits_its_schema_and_is_answered(model: Predictor, path: str) -> None:
    found = content(model, path)
    jsonschema.validate(found["example"], found["schema"])  # pyright: ignore
    body = json.dumps(found["example"]).encode()
    answer = json.loads((model.predict_v1 if "v1" in path else model.predict_v2)(body, None).body)
    schema = api_description([model])["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    jsonschema.validate(answer, schema["schema"])


def test_the_route_that_explains_is_there_where_the_model_is_explained(model: Predictor) -> None:
    path = "/v1/models/m:explain"
    assert path not in api_description([model])["paths"]
    model.served = model.served.model_copy(update={"explain": True})
    found = content(model, path)
    jsonschema.validate(found["example"], found["schema"])  # pyright: ignore


@pytest.mark.parametrize("wrong", [{}, {"instances": []}, {"instances": [{}]}, {"instances": [{"x": "a"}]}])
def test_what_the_route_refuses_does_not_fit_its_schema(model: Predictor, wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, content(model, "/v1/models/m:predict")["schema"])  # pyright: ignore


def test_the_page_names_the_columns_and_escapes_them(model: Predictor) -> None:
    hostile = "<script>alert('x')</script>"
    [column] = model.signature.inputs
    golden = model.signature.golden.model_copy(update={"rows": ({hostile: 1.0},)})
    model.signature = model.signature.model_copy(
        update={"inputs": (column.model_copy(update={"name": hostile}),), "golden": golden}
    )
    page = api_page([model])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "Version 1, regression" in page
