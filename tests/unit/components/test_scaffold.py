"""What `dg scaffold defs` writes for a new model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import jsonschema
import pytest
import yaml

from mlops_assets.components.scaffold import TEMPLATE, ModelPipelineScaffolder
from mlops_assets.spec.json_schema import schema
from mlops_assets.spec.load_spec import load_spec

if TYPE_CHECKING:
    from pathlib import Path


def test_the_scaffolded_yaml_is_valid_as_it_is() -> None:
    content = yaml.safe_load(TEMPLATE.format(model="mine"))
    assert load_spec(content["attributes"], None, "defs.yaml").model == "mine"
    jsonschema.validate(content, schema())


@pytest.mark.parametrize(
    ("folder", "model"), [("churn", "churn"), ("Customer-Churn", "customer_churn"), ("2nd", "model_2nd")]
)
def test_a_model_is_named_like_its_folder(tmp_path: Path, folder: str, model: str) -> None:
    request = dg.ScaffoldRequest(
        type_name="mlops_assets.ModelPipeline",
        target_path=tmp_path / folder,
        scaffold_format="yaml",
        project_root=tmp_path,
        params=None,
    )
    ModelPipelineScaffolder().scaffold(request)
    content = yaml.safe_load((tmp_path / folder / "defs.yaml").read_text())
    assert load_spec(content["attributes"], None, "defs.yaml").model == model
