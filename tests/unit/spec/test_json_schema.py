"""The JSON schema for editors: it takes what the spec takes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from mlops_assets.spec.json_schema import schema
from tests.unit.spec.test_model_spec import BROKEN, MODELS

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_the_models_that_ship_keep_the_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), schema())


def test_the_exported_schema_is_the_specs() -> None:
    assert json.loads((PROJECT / "docs/model.schema.json").read_text()) == schema()


def test_the_schema_refuses_what_the_spec_refuses() -> None:
    for _, given, field, message in BROKEN:
        if "no such field" in message or "missing" in message:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({"type": "mlops_assets.ModelPipeline", "attributes": given}, schema())
            assert field
