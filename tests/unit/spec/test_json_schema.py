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
    is_field = isinstance(part, dict) and not isinstance(part.get("type"), dict)  # and no list of fields
    if is_field and "default" in part:
        yield part["default"], part


def test_every_default_may_be_written_into_a_yaml() -> None:
    whole = schema()
    found = list(defaults(whole))
    assert len(found) > 40
    for value, kind in found:
        jsonschema.validate(value, kind | {"$defs": whole["$defs"]})


def whole(**changed: Any) -> dict[str, Any]:
    return {"type": "mlops_assets.ModelPipeline", "attributes": attributes(**changed)}


@pytest.mark.parametrize("written", ["1e-3", "2.5E-4", "-1e3", ".5e3"])
def test_numbers_that_yaml_reads_as_text_are_numbers_to_schema_and_spec_alike(written: str) -> None:
    read = yaml.safe_load(written)
    document = whole(
        columns__pressure={"type": "number", "min": read},
        gate={"metric": "log_loss", "at_most": 1.0, "beats_champion_by": read},
    )
    jsonschema.validate(document, schema())
    spec = load_spec(document["attributes"], None, "defs.yaml")
    assert spec.columns["pressure"].min == spec.gate.beats_champion_by == float(written)


def test_every_number_of_the_schema_may_have_an_exponent() -> None:
    assert '"type": "number"' not in json.dumps(schema())


@pytest.mark.parametrize("written", ["fast", "1e", ""])
def test_other_texts_are_no_numbers(written: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(whole(columns__pressure={"type": "number", "min": written}), schema())


def test_a_metric_that_is_none_is_refused() -> None:
    with pytest.raises(jsonschema.ValidationError, match="acuracy"):
        jsonschema.validate(whole(gate__metric="acuracy"), schema())


def test_the_keys_that_dagster_takes_may_stand_beside_the_attributes() -> None:
    keys = {"requirements": {"env": ["BUCKET"]}, "post_processing": {"assets": []}, "template_vars_module": "my.module"}
    jsonschema.validate(whole() | keys, schema())
