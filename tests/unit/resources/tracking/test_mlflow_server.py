"""The embedded MLflow server: what it takes from MLflow is still there, and it is told when it cannot start."""

from __future__ import annotations

import socket
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient, environment_variables
from mlflow.server import constants

from mlops_assets.ml.errors import ServerError
from resources.environment import Environment
from resources.tracking.mlflow_database import create_database
from resources.tracking.mlflow_server import variables_of
from tests.support import free_port


def environment(home: Path) -> Environment:
    return Environment.read({"MLOPS_HOME": str(home), "MLFLOW_PORT": str(free_port())})


def test_mlflow_still_tells_its_server_by_these_variables() -> None:
    internal = {
        constants.BACKEND_STORE_URI_ENV_VAR,
        constants.REGISTRY_STORE_URI_ENV_VAR,
        constants.ARTIFACT_ROOT_ENV_VAR,
        constants.ARTIFACTS_DESTINATION_ENV_VAR,
        constants.SERVE_ARTIFACTS_ENV_VAR,
        vars(environment_variables)["_MLFLOW_SGI_NAME"].name,
    }
    assert {name for name in variables_of(Path("a"), Path("b")) if name.startswith("_")} == internal


def test_what_it_is_given_lies_in_its_folder_its_pages_answer_and_it_is_for_this_machine_alone(tmp_path: Path) -> None:
    server = environment(tmp_path).mlflow_server()
    url = server.ensure_running()
    try:
        client = MlflowClient(url)
        run = client.create_run(client.create_experiment("e"))
        client.log_text(run.info.run_id, "hello", "a.txt")
        client.create_registered_model("m")
        assert [path.read_text() for path in tmp_path.glob("mlflow/artifacts/**/a.txt")] == ["hello"]
        with urllib.request.urlopen(url, timeout=10) as page:
            assert b"<title>MLflow</title>" in page.read()
        # It is for this machine alone, and for no other site's pages
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.2", int(url.rsplit(":", 1)[1]))) != 0
        foreign = urllib.request.Request(f"{url}/api/2.0/mlflow/runs/create", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=10)
    finally:
        server.stop()


def test_a_database_of_another_mlflow_is_told_with_the_command_that_upgrades_it(tmp_path: Path) -> None:
    place = environment(tmp_path)
    create_database(place.mlflow_database)
    connection = sqlite3.connect(place.mlflow_database)
    connection.execute("UPDATE alembic_version SET version_num = '728d730b5ebd'")
    connection.commit()
    connection.close()
    with pytest.raises(ServerError, match="mlflow db upgrade"):
        place.mlflow_server().ensure_running()
