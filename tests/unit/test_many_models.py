"""A process that loads the models of its run alone plans the same steps as one that loads all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
COPIES = 4
# What `dagster api execute_step` and `execute_run` do before they run anything
PROGRAM = """
import json, os, sys
import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import create_execution_plan

def plan(job, assets=None, checks=None, config=None):
    recon = ReconstructableRepository(ModuleCodePointer("mlops_assets.definitions", "defs", os.getcwd()))
    recon = recon.get_reconstructable_job(job).get_subset(
        asset_selection={dg.AssetKey(key) for key in assets} if assets is not None else None,
        asset_check_selection={dg.AssetCheckKey(dg.AssetKey(key), name) for key, name in checks} if checks else None,
    )
    made = create_execution_plan(recon, run_config=config or {})
    steps = {step.key: sorted(step.tags) + sorted(i.name for i in step.step_inputs) for step in made.steps}
    return {"steps": steps, "keys": made.step_keys_to_execute}

from mlops_assets.definitions import defs
keys = defs.resolve_asset_graph().get_all_asset_keys()
plans = [plan(**run) for run in json.loads(sys.argv[1])]
print(json.dumps({"plans": plans, "models": len({key.path[0] for key in keys})}))
"""
STAGES = ["raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment"]
MONTH = {"ops": {"flight_delay_1__raw_data": {"config": {"last_partition": "2013-06"}}}}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "a model's job": ("iris_2", {"job": "iris_2"}),
    "a partition": ("flight_delay_1", {"job": "flight_delay_1_by_month", "config": MONTH}),
    "some assets": ("iris_0", {"job": "__ASSET_JOB", "assets": [["iris_0", "features"], ["iris_0", "trained_model"]]}),
    "several models": (
        "iris_0,fraud_detection_3",
        {
            "job": "__ASSET_JOB",
            "assets": [[model, stage] for model in ("iris_0", "fraud_detection_3") for stage in STAGES],
        },
    ),
    "an asset with its checks": (
        "iris_1",
        {
            "job": "__ASSET_JOB",
            "assets": [["iris_1", "raw_data"]],
            "checks": [[["iris_1", "raw_data"], name] for name in ("not_empty", "schema")],
        },
    ),
}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with copies of each shipped model in the place of the models."""
    project = tmp_path_factory.mktemp("many")
    for name in ("mlops_assets", "resources"):
        shutil.copytree(PROJECT / name, project / name)
    shutil.copyfile(PROJECT / "pyproject.toml", project / "pyproject.toml")
    for shipped in sorted((project / "mlops_assets/defs").glob("*/defs.yaml")):
        model, text = shipped.parent.name, shipped.read_text()
        shutil.rmtree(shipped.parent)
        for number in range(COPIES):
            copy = shipped.parent.with_name(f"{model}_{number}")
            copy.mkdir()
            (copy / "defs.yaml").write_text(text.replace(f"model: {model}\n", f"model: {model}_{number}\n"))
    return project


def plans(project: Path, runs: list[dict[str, Any]], **environment: str) -> dict[str, Any]:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(runs)],
        capture_output=True,
        text=True,
        check=False,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)} | environment,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def with_all(many: Path) -> dict[str, Any]:
    """The plan of each run where all models are loaded."""
    found = plans(many, [run for _, run in RUNS.values()])
    assert found["models"] == COPIES * len(list((PROJECT / "mlops_assets/defs").glob("*/defs.yaml")))
    return dict(zip(RUNS, found["plans"], strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_the_plan_is_the_same(many: Path, with_all: dict[str, Any], name: str) -> None:
    models, run = RUNS[name]
    alone = plans(many, [run], MLOPS_MODELS=models)
    assert alone["models"] == len(models.split(","))
    [plan] = alone["plans"]
    assert plan["keys"]
    assert plan == with_all[name]
