"""What is used and changed of kserve is still there: an upgrade that moves it fails here, not in a predictor."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kserve import ModelRepository, model_server
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.protocol.dataplane import DataPlane

from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.kserve_patch import create_server
from mlops_assets.serving.model_repository import Repository
from mlops_assets.serving.routes import PredictionRoutes
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path

OPTION_OF_KSERVE = "sys.argv = ['program', '--http_port', 'none']; "


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_kserve_still_parses_the_command_line_when_it_is_imported() -> None:
    assert "argument --http_port" in run(f"import sys; {OPTION_OF_KSERVE} import kserve").stderr


def test_an_import_through_the_patch_leaves_the_command_line_alone() -> None:
    done = run(f"import sys; {OPTION_OF_KSERVE} import mlops_assets.serving.kserve_patch; print(sys.argv[1:])")
    assert done.stdout.splitlines()[-1] == "['--http_port', 'none']", done.stderr


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """KServe's application, which is one for the process, without what this test adds to it."""
    monkeypatch.setattr(model_server, "RESTServer", model_server.RESTServer)
    monkeypatch.setattr(model_server.app, "user_middleware", [])
    return model_server.app


def test_the_server_listens_where_it_is_told_and_has_our_routes_in_front(app: Any, tmp_path: Path) -> None:
    server = create_server(Repository(tmp_path), PredictionRoutes, "127.0.0.7", 18085)
    rest = model_server.RESTServer(
        FASTAPI_APP_IMPORT_STRING, server.dataplane, server.model_repository_extension, server.http_port
    )
    assert (rest.config.host, rest.config.port) == ("127.0.0.7", 18085)
    assert [middleware.cls for middleware in app.user_middleware] == [PredictionRoutes]
    assert not server.enable_grpc
    assert not server.enable_latency_logging


def test_kserve_starts_the_rest_server_and_the_application_by_the_names_that_are_replaced() -> None:
    assert "RESTServer" in model_server.ModelServer.start.__code__.co_names
    assert FASTAPI_APP_IMPORT_STRING == "kserve.model_server:app"
    assert {"app", "data_plane", "http_port"} <= inspect.signature(model_server.RESTServer).parameters.keys()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one model."""
    signature = write_artifact(tmp_path / "m" / "1")
    version = ServedVersion(folder="1", sha256=signature.sha256, version="1")
    Declaration(champion=version).write(tmp_path / "m")
    repository = Repository(tmp_path)
    repository.load_all()
    return repository


def test_kserve_finds_a_models_state_and_columns_in_our_repository(repository: Repository) -> None:
    plane = DataPlane(model_registry=repository)
    assert asyncio.run(plane.model_ready("m"))
    described = asyncio.run(plane.model_metadata("m"))
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    assert described["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}]


def test_kserve_unloads_our_models_when_it_stops(repository: Repository) -> None:
    repository.unload("m")
    assert repository.get_model("m") is None
    assert list(inspect.signature(ModelRepository.load).parameters) == ["self", "name"]
