"""What `dg scaffold defs` writes for a new model."""

from __future__ import annotations

import jsonschema
import yaml

from mlops_assets.components.scaffold import TEMPLATE
from mlops_assets.spec.json_schema import schema
from mlops_assets.spec.load_spec import load_spec


def test_the_scaffolded_yaml_is_valid_as_it_is() -> None:
    content = yaml.safe_load(TEMPLATE.format(model="mine"))
    assert load_spec(content["attributes"], None, "defs.yaml").model == "mine"
    jsonschema.validate(content, schema())
