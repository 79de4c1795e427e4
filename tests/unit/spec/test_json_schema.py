"""The JSON schema for editors: it takes what the spec takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from mlops_assets.spec.json_schema import schema
from mlops_assets.spec.load_spec import load_spec
from tests.support import attributes
from tests.unit.spec.test_model_spec import BROKEN, MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[3]
NETWORK = "mlops_assets.ml.networks.MLP"


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


def defaults(part: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each default in a schema, with the schema of the field it belongs to."""
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from defaults(inner)
    if isinstance(part, dict) and "default" in part:
        yield part["default"], part


def test_every_default_may_be_written_into_a_yaml() -> None:
    whole = schema()
    found = list(defaults(whole))
    assert len(found) > 40
    for value, kind in found:
        jsonschema.validate(value, kind | {"$defs": whole["$defs"]})


def test_a_number_that_yaml_1_1_reads_as_text_is_one_to_both_checks() -> None:
    written = yaml.safe_load("{learning_rate: 1e-3, weight_decay: 2.5E-4, params: {hidden: [8], dropout: 1e-1}}")
    given = attributes(train={"network": NETWORK, **written}, gate__at_least="5e-1", columns__pressure__min="9e2")
    jsonschema.validate({"type": "mlops_assets.ModelPipeline", "attributes": given}, schema())
    spec = load_spec(given, None, "defs.yaml")
    assert (spec.train.learning_rate, spec.train.weight_decay) == (0.001, 0.00025)
    assert (spec.train.params["dropout"], spec.gate.at_least, spec.columns["pressure"].min) == (0.1, 0.5, 900)
    given["train"]["learning_rate"] = "fast"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"type": "mlops_assets.ModelPipeline", "attributes": given}, schema())
