"""The servers of this machine: which there are, and that asking and stopping start none."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from mlops_assets.cli.servers import local_servers, start, status, stop
from mlops_assets.ml.errors import ServerError
from mlops_assets.serving.declaration import Declaration, ServedVersion
from resources.environment import Environment
from tests.artifacts import write_artifact
from tests.support import free_port

if TYPE_CHECKING:
    from pathlib import Path


def environment(home: Path, **more: str) -> Environment:
    ports = {name: str(free_port()) for name in ("MLFLOW_PORT", "SERVING_PORT", "EXPORTER_PORT")}
    return Environment.read({"MLOPS_HOME": str(home), **ports, **more})


def test_asking_and_stopping_start_nothing(tmp_path: Path) -> None:
    here = environment(tmp_path)
    names = ["mlflow", "serving", "exporter"]
    assert list(status(here)) == [f"{name}: does not run" for name in names]
    assert list(stop(here)) == [f"{name}: was not running" for name in reversed(names)]


def test_a_shared_mlflow_server_is_not_run_here(tmp_path: Path) -> None:
    here = environment(tmp_path, MLFLOW_TRACKING_URI="http://mlflow.example.com")
    assert [server.name for server in local_servers(here)] == ["serving", "exporter"]
    lines = ["serving: not started, nothing is deployed yet", f"exporter: http://127.0.0.1:{here.exporter_port}"]
    lines += ["mlflow: http://mlflow.example.com, which MLFLOW_TRACKING_URI names, is not run here"]
    try:
        assert list(start(here)) == lines
    finally:
        assert "exporter: stopped" in list(stop(here))


def test_in_production_kserve_serves(tmp_path: Path) -> None:
    images = {"MLOPS_PREDICTOR_IMAGE": "predictor:1", "MLOPS_TRAINER_IMAGE": "trainer:1"}
    needed = {"LAKE_URI": str(tmp_path), "MLFLOW_TRACKING_URI": "http://mlflow", **images}
    here = environment(tmp_path, MLOPS_ENV="production", **needed)
    assert local_servers(here) == []
    assert list(status(here))[-1] == "serving: KServe serves (MLOPS_ENV is production)"


def test_a_server_is_started_once_and_stopped(tmp_path: Path) -> None:
    here = environment(tmp_path)
    url = f"http://127.0.0.1:{here.mlflow_port}"
    try:
        assert f"mlflow: {url}" in list(start(here))
        assert f"mlflow: {url} (ran already)" in list(start(here))
        assert url in next(iter(status(here)))
    finally:
        assert "mlflow: stopped" in list(stop(here))


def test_the_status_says_which_model_is_refused_and_why(tmp_path: Path) -> None:
    here = environment(tmp_path)
    models = tmp_path / "serving" / "models"
    for name, sha256 in (("sound", None), ("damaged", "0" * 64)):
        signature = write_artifact(models / name / "1")
        version = ServedVersion(folder="1", sha256=sha256 or signature.sha256, version="1")
        Declaration(champion=version).write(models / name)
    [server] = [server for server in local_servers(here) if server.name == "serving"]
    try:
        server.ensure_running()
        [state, refused] = [line for line in status(here) if line.startswith("serving: ")]
    finally:
        server.stop()
    assert "answers at" in state
    assert refused.startswith("serving: damaged is not served as it was deployed: ")
    assert "digest" in refused


def test_a_port_that_another_program_holds_is_told(tmp_path: Path) -> None:
    here = environment(tmp_path)
    with socket.create_server(("127.0.0.1", here.mlflow_port)), pytest.raises(ServerError, match="is taken"):
        list(start(here))
