"""MLflow as production runs it: its own server with the arguments and the configuration of `k8s/`."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from k8s.base.mlflow.migrate import make_client
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow import MlflowClient

K8S = Path(__file__).parents[2] / "k8s"
USER, PASSWORD = "admin", secrets.token_hex(8)
PIPELINE, OTHER = (("pipeline", secrets.token_hex(8)), ("analyst", secrets.token_hex(8)))
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def arguments() -> list[str]:
    """The server's arguments in the base, with what the component mlflow-auth adds."""
    [deployment] = yaml.safe_load_all((K8S / "base" / "mlflow" / "deployment.yaml").read_text())
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    component = yaml.safe_load((K8S / "components" / "mlflow-auth" / "kustomization.yaml").read_text())
    added = [op["value"] for patch in component["patches"] for op in yaml.safe_load(patch.get("patch", "[]"))]
    return [*container["args"], *added]


def configuration(database: str) -> str:
    """basic_auth.ini of the component external-secrets, with another database."""
    documents = yaml.safe_load_all((K8S / "components" / "external-secrets" / "external-secrets.yaml").read_text())
    [secret] = [document for document in documents if document["metadata"]["name"] == "mlflow-auth"]
    lines: list[str] = secret["spec"]["target"]["template"]["data"]["basic_auth.ini"].splitlines()
    return "\n".join(f"database_uri = {database}" if line.startswith("database_uri") else line for line in lines)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a running server."""
    folder, number = tmp_path_factory.mktemp("mlflow"), free_port()
    (folder / "basic_auth.ini").write_text(configuration(f"sqlite:///{folder}/auth.db"))
    variables = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(folder / "artifacts"),
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    database = f"sqlite:///{folder}/auth.db"
    for name, password in (PIPELINE, OTHER):
        make_client(database, name, "its former password")
        make_client(database, name, password)
    given = [argument.replace("--port=5000", f"--port={number}") for argument in arguments()]
    given = ["--host=127.0.0.1" if argument.startswith("--host") else argument for argument in given]
    # PostgreSQL stands two that start at once, SQLite does not
    given = ["--workers=1" if argument.startswith("--workers") else argument for argument in given]
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "mlflow", "server", *given]
        server = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
        try:
            for _ in range(600):
                assert server.poll() is None, (folder / "log").read_text()
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{number}/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.1)
            yield number
        finally:
            server.terminate()
            server.wait()


def ask(port: int, login: str | None = None, host: str = "mlflow:5000") -> int:
    """The status of a search for experiments."""
    headers = {"Host": host}
    if login:
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{SEARCH}", headers=headers)
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_the_password_of_the_secret_opens_mlflow(port: int) -> None:
    assert ask(port, f"{USER}:{PASSWORD}") == 200
    assert ask(port) == 401, "nobody in particular"
    assert ask(port, "admin:password1234") == 401, "MLflow's former default"


@pytest.fixture
def client(port: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], MlflowClient]:
    """MLflow's client, logged in as somebody."""
    from mlflow import MlflowClient

    def logged_in(name: str, password: str) -> MlflowClient:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        return MlflowClient(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}")

    return logged_in


def test_the_pipelines_user_does_its_work_and_is_no_admin(
    port: int, client: Callable[[str, str], MlflowClient]
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.server import get_app_client

    pipeline = client(*PIPELINE)
    run = pipeline.create_run(pipeline.create_experiment("iris"))
    pipeline.log_metric(run.info.run_id, "accuracy", 0.9)
    pipeline.create_registered_model("iris")
    version = pipeline.create_model_version("iris", run.info.artifact_uri, run.info.run_id)
    pipeline.set_registered_model_alias("iris", "champion", version.version)

    assert pipeline.get_model_version_by_alias("iris", "champion").version == version.version
    other = client(*OTHER)
    assert other.get_model_version_by_alias("iris", "champion").version == version.version
    with pytest.raises(MlflowException, match="Permission denied"):
        other.set_registered_model_alias("iris", "champion", version.version)
    client(*PIPELINE)
    with pytest.raises(MlflowException, match="Permission denied"):
        get_app_client("basic-auth", f"http://127.0.0.1:{port}").create_user("mallory", "a long password")


def test_another_host_name_is_refused(port: int) -> None:
    assert ask(port, f"{USER}:{PASSWORD}", host="evil.example") == 403
