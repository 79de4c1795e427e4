"""The code location as a whole: what it defines, and how a mistake in it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.definitions import defs

PROJECT = Path(__file__).parents[2]
STAGES = ["raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment"]


@pytest.mark.parametrize("model", ["flight_delay", "fraud_detection", "iris"])
def test_each_model_has_its_stages_jobs_and_checks(model: str) -> None:
    graph = defs.resolve_asset_graph()
    keys = {key for key in graph.materializable_asset_keys if key.path[0] == model}
    assert keys == {dg.AssetKey([model, stage]) for stage in STAGES}
    assert defs.resolve_job_def(model).name == model
    checks = {key.name for key in graph.asset_check_keys if key.asset_key.path[0] == model}
    assert checks >= {"not_empty", "schema", "contract", "no_leakage", "gate", "reloads", "no_skew"}


def test_every_blocking_check_blocks() -> None:
    graph = defs.resolve_asset_graph()
    warning = {key.name for key in graph.asset_check_keys if not graph.get_check_spec(key).blocking}
    assert warning == {"row_count", "beats_champion", "newest_data"}


def test_an_asset_leads_to_its_yaml() -> None:
    metadata = defs.resolve_asset_graph().get(dg.AssetKey(["iris", "raw_data"])).metadata
    [reference, *_] = metadata["dagster/code_references"].code_references
    assert str(reference.file_path).endswith("mlops_assets/defs/iris/defs.yaml")


def test_a_mistake_in_a_yaml_is_told_in_one_line_when_the_location_loads(tmp_path: Path) -> None:
    for name in ("mlops_assets", "resources", "pyproject.toml"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tmp_path / name)
    broken = tmp_path / "mlops_assets/defs/iris/defs.yaml"
    broken.write_text(broken.read_text().replace("task: multiclass_classification", "task: multiclass"))
    program = [sys.executable, "-c", "import mlops_assets.definitions"]
    found = subprocess.run(
        program,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert found.returncode == 1
    lines = [line for line in found.stderr.splitlines() if line.startswith("mlops_assets.ml.errors.SpecError")]
    assert len(lines) == 1
    assert "mlops_assets/defs/iris/defs.yaml:4: task: 'multiclass'" in lines[0]
    assert "multiclass_classification" in lines[0]
