"""The code location as a whole: what it defines, and what loading it does not import."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.definitions import defs
from mlops_assets.ml.errors import ServerError, SpecError
from resources.environment import Environment
from resources.local.background_server import BackgroundServer, started_at
from tests.support import free_port

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
    assert warning == {"row_count"}


def test_an_asset_leads_to_its_yaml() -> None:
    metadata = defs.resolve_asset_graph().get(dg.AssetKey(["iris", "raw_data"])).metadata
    [reference, *_] = metadata["dagster/code_references"].code_references
    assert str(reference.file_path).endswith("mlops_assets/defs/iris/defs.yaml")


def test_loading_imports_no_heavy_library() -> None:
    heavy = [
        "torch",
        "mlflow",
        "kserve",
        "sklearn",
        "evidently",
        "onnx",
        "onnxruntime",
        "matplotlib",
        "duckdb",
        "scipy",
    ]
    program = f"import sys, mlops_assets.definitions; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == "[]"


def test_a_predictor_imports_neither_dagster_nor_the_training_stack() -> None:
    program = (
        "import sys; sys.argv = ['server']; import mlops_assets.serving.model_server, mlops_assets.serving.routes\n"
        "print([name for name in ['dagster', 'mlflow', 'torch', 'sklearn', 'duckdb'] if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip().splitlines()[-1] == "[]"


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


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MLOPS_ENV": "cloud"}, "set it to local .* or production"),
        ({"MLOPS_ENV": "production"}, "needs LAKE_URI, MLFLOW_TRACKING_URI, MLOPS_PREDICTOR_IMAGE"),
        ({"SERVING_PORT": "http"}, "SERVING_PORT is 'http'; give a port"),
        ({"MLFLOW_PORT": "70000"}, "MLFLOW_PORT is '70000'"),
    ],
)
def test_wrong_environment_variables_are_told(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Environment.read(variables)


def server(folder: Path, port: int, program: str) -> BackgroundServer:
    return BackgroundServer(folder, "serving", port, "/", [sys.executable, "-c", program], {})


LISTEN = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"


def test_a_background_server_is_started_once_and_stopped(tmp_path: Path) -> None:
    port = free_port()
    first = server(tmp_path, port, LISTEN.format(port=port))
    url = first.ensure_running()
    pid = first.pid()
    second = server(tmp_path, port, LISTEN.format(port=port))
    assert second.ensure_running() == url
    assert second.pid() == pid
    assert second.stop()
    assert first.pid() is None
    assert not first.stop()


def test_a_server_that_cannot_start_gives_the_end_of_its_log(tmp_path: Path) -> None:
    broken = server(tmp_path, free_port(), "raise SystemExit('no licence found')")
    with pytest.raises(ServerError, match="no licence found"):
        broken.ensure_running()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    port = free_port()
    other = server(tmp_path / "other", port, LISTEN.format(port=port))
    other.ensure_running()
    try:
        with pytest.raises(ServerError, match=f"Port {port} for serving is taken.*SERVING_PORT"):
            server(tmp_path / "mine", port, LISTEN.format(port=port)).ensure_running()
    finally:
        other.stop()


def test_a_pid_that_was_given_to_another_process_is_not_the_server(tmp_path: Path) -> None:
    idle = server(tmp_path, free_port(), "")
    (tmp_path / "serving.json").write_text(json.dumps({"pid": os.getpid(), "started_at": "1.00"}))
    assert idle.pid() is None
    assert started_at(os.getpid()) is not None
