"""The commands of the README, as a user types them, and Dagster's own view of what is fresh."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from resources.environment import Environment
from resources.serving.choose_target import local_serving
from tests.support import free_port, post, weather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Platform

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An empty machine."""
    home = tmp_path / "home"
    (home / "dagster").mkdir(parents=True)
    made = os.environ | {
        "MLOPS_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "SERVING_PORT": str(free_port()),
        "MLFLOW_PORT": str(free_port()),
    }
    yield made
    subprocess.run([sys.executable, "-m", "mlops_assets.cli", "servers", "stop"], env=made, cwd=PROJECT, check=True)


def run(command: list[str], variables: dict[str, str], folder: Path = PROJECT) -> str:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_job_runs_on_an_empty_machine(variables: dict[str, str]) -> None:
    run(["dagster", "job", "execute", "-m", "mlops_assets.definitions", "-j", "iris"], variables)
    environment = Environment.read(variables)
    url = local_serving(environment).server.url
    flower = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    code, answer = post(f"{url}/v1/models/iris:predict", {"instances": [flower]})
    assert (code, answer["predictions"][0]["label"]) == (200, "setosa")


@pytest.mark.long
def test_stop_and_start_bring_the_same_model_back(variables: dict[str, str]) -> None:
    run(["dagster", "job", "execute", "-m", "mlops_assets.definitions", "-j", "iris"], variables)
    assert "serving: stopped" in run(["python", "-m", "mlops_assets.cli", "servers", "stop"], variables)
    assert "serving: was not running" in run(["python", "-m", "mlops_assets.cli", "servers", "stop"], variables)
    run(["python", "-m", "mlops_assets.cli", "servers", "start"], variables)
    environment = Environment.read(variables)
    url = local_serving(environment).server.ensure_running()
    flower = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}
    assert post(f"{url}/v1/models/iris:predict", {"instances": [flower]})[1]["predictions"][0]["label"] == "virginica"


def test_a_scaffolded_model_passes_all_checks_and_runs(variables: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("mlops_assets", "resources"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(PROJECT / "pyproject.toml", copy / "pyproject.toml")
    inside = variables | {"PYTHONPATH": str(copy)}
    run(["dg", "scaffold", "defs", "mlops_assets.ModelPipeline", "my_model"], inside, copy)
    run(["dg", "check", "yaml", "mlops_assets/defs/my_model"], inside, copy)
    run(["dg", "check", "defs"], inside, copy)
    assert "my_model: no problems" in run(["python", "-m", "mlops_assets.cli", "check", "."], inside, copy)
    run(
        ["dagster", "job", "execute", "-m", "mlops_assets.definitions", "-j", "my_model"],
        inside,
        copy,
    )


def test_a_changed_source_makes_what_depends_on_it_stale(platform: Platform) -> None:
    platform.put(weather())
    assert platform.run().success
    definitions = platform.definitions(platform.spec())
    first = dg.evaluate_automation_conditions(defs=definitions, instance=platform.instance)
    assert first.total_requested == 0
    platform.put(weather(seed=5), "b.csv")
    assert platform.run(asset_selection=[dg.AssetKey([platform.model, "raw_data"])]).success
    second = dg.evaluate_automation_conditions(defs=definitions, instance=platform.instance, cursor=first.cursor)
    assert second.get_num_requested(dg.AssetKey([platform.model, "prepared_data"])) == 1


def test_dagster_mlflows_own_resource_finds_the_run(platform: Platform) -> None:
    from dagster_mlflow import mlflow_tracking

    platform.put(weather())
    result = platform.run()
    [ours] = platform.mlflow_runs()

    @dg.op(required_resource_keys={"mlflow"})
    def asks(context) -> str:
        return context.resources.mlflow.active_run().info.run_id

    @dg.job(resource_defs={"mlflow": mlflow_tracking})
    def another() -> None:
        asks()

    configured = {"mlflow_tracking_uri": platform.mlflow_uri, "experiment_name": platform.model}
    found = another.execute_in_process(
        run_config={"resources": {"mlflow": {"config": configured}}},
        run_id=result.run_id,
        instance=dg.DagsterInstance.ephemeral(),
    )
    assert found.output_for_node("asks") == ours.info.run_id
