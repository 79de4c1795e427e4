"""`mlops-assets doctor`: each thing is looked at, nothing hangs, no password is shown."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mlops_assets.cli import doctor
from mlops_assets.cli.doctor import Finding, diagnose
from mlops_assets.cli.program import main
from mlops_assets.serving.declaration import Declaration, ServedVersion
from resources.lake.folder_store import FolderStore
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """A machine where all is well."""
    (tmp_path / "home/dagster").mkdir(parents=True)
    return {
        "MLOPS_HOME": str(tmp_path / "home"),
        "DAGSTER_HOME": str(tmp_path / "home/dagster"),
        "MLFLOW_PORT": str(free_port()),
        "SERVING_PORT": str(free_port()),
    }


def findings(variables: dict[str, str], limit_s: float = 60) -> dict[str, Finding]:
    return dict(diagnose(variables, limit_s))


@contextmanager
def mlflow_stand_in(status: int, seconds_off: float = 0) -> Iterator[str]:
    """A server that answers everything with a status, and tells a time."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        do_GET = do_POST = do_HEAD  # noqa: N815 - the library's names

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + seconds_off, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_machine_where_all_is_well_has_no_failure_and_the_lake_stays_empty(
    variables: dict[str, str], tmp_path: Path
) -> None:
    found = findings(variables)
    assert [name for name, finding in found.items() if finding.status == "FAIL"] == []
    assert list(found)[:3] == ["python", "packages", "disk"]
    assert list(found)[-5:] == ["mlflow", "models", "clock", "gpu", "dagster"]
    assert [path for path in (tmp_path / "home/lake").rglob("*") if path.is_file()] == []


def test_it_prints_a_line_for_each_and_ends_with_1_when_one_fails(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", int(variables["SERVING_PORT"]))):
        result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    [failed] = [line for line in result.output.splitlines() if line.startswith("FAIL")]
    assert "is taken by another program; stop that, or choose another port by SERVING_PORT" in failed


def test_a_lake_that_overwrites_is_told(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrites(self: FolderStore, key: str, content: bytes) -> bool:
        self.replace(key, content)
        return True

    monkeypatch.setattr(FolderStore, "create", overwrites)
    found = findings(variables)["lake"]
    assert found.status == "FAIL"
    assert "does not keep the first of two writers" in found.what


def test_a_lake_in_s3_is_written_and_its_clock_is_looked_at(variables: dict[str, str], s3_endpoint: str) -> None:
    import boto3

    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(
        Bucket="doctor", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    s3 = {"LAKE_URI": "s3://doctor/lake", "AWS_ENDPOINT_URL_S3": s3_endpoint}
    found = findings(variables | s3)
    assert found["lake"] == Finding("OK", "s3://doctor/lake can be written, and what is there is not overwritten")
    assert found["clock"].status == "OK"
    assert s3_endpoint in found["clock"].what
    assert "Contents" not in boto3.client("s3", endpoint_url=s3_endpoint).list_objects_v2(Bucket="doctor")


@pytest.mark.parametrize(
    ("user", "space", "told"),
    [
        ("ann", "", Finding("OK", "ann")),
        ("root", "new-features", Finding("OK", "new-features")),
        ("root", "", Finding("WARN", "root, by a user name that others may have", "set MLOPS_SPACE to a name")),
        ("ann", "production", Finding("OK", "production's, to look at; unset MLOPS_SPACE to have one of your own")),
    ],
)
def test_it_says_in_whose_space_one_works(
    variables: dict[str, str], user: str, space: str, told: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(variables)["space"] == Finding("OK", "none is needed, nothing is shared")
    monkeypatch.setenv("LOGNAME", user)
    found = findings(variables | {"LAKE_URI": f"{variables['MLOPS_HOME']}/shared", "MLOPS_SPACE": space})["space"]
    assert found._replace(remedy="") == told._replace(remedy="")
    assert found.remedy.startswith(told.remedy)


def test_a_bucket_that_does_not_exist_is_told(variables: dict[str, str], s3_endpoint: str) -> None:
    found = findings(variables | {"LAKE_URI": "s3://nobodys/lake", "AWS_ENDPOINT_URL_S3": s3_endpoint})["lake"]
    assert found.status == "FAIL"
    assert "s3://nobodys/lake" in found.what
    assert "LAKE_URI" in found.remedy


def test_a_home_that_may_not_be_made_is_told(variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = findings(variables | {"MLOPS_HOME": str(tmp_path / "file/home")})
    assert (found["disk"].status, found["lake"].status) == ("FAIL", "FAIL")
    assert "set MLOPS_HOME" in found["disk"].remedy


def test_a_wrong_environment_is_told_and_the_rest_is_looked_at(variables: dict[str, str]) -> None:
    found = findings(variables | {"MLFLOW_TRACKING_URI": "http://me:hunter22@mlflow"})
    assert found["environment"].status == "FAIL"
    assert "hunter22" not in str(found)
    assert "lake" not in found
    assert found["python"].status == "OK"


def test_an_mlflow_server_that_is_not_there_is_told_soon(variables: dict[str, str]) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    found = findings(variables | {"MLFLOW_TRACKING_URI": uri})
    assert found["mlflow"].status == "FAIL"
    assert f"{uri} cannot be reached" in found["mlflow"].what
    assert "port of mlflow" not in found


def test_a_refused_login_is_told(variables: dict[str, str]) -> None:
    with mlflow_stand_in(401) as uri:
        found = findings(variables | {"MLFLOW_TRACKING_URI": uri})["mlflow"]
    assert found.status == "FAIL"
    assert "refuses the login" in found.what
    assert "MLFLOW_TRACKING_USERNAME" in found.remedy


@pytest.mark.parametrize(("seconds", "status"), [(0, "OK"), (-60, "WARN"), (3600, "FAIL")])
def test_the_clock_is_held_against_that_of_the_servers(variables: dict[str, str], seconds: float, status: str) -> None:
    with mlflow_stand_in(404, seconds) as uri:
        assert findings(variables | {"MLFLOW_TRACKING_URI": uri})["clock"].status == status


def test_what_does_not_answer_ends_after_its_time(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_gpu", lambda: time.sleep(60))
    began = time.monotonic()
    found = dict(doctor.diagnose(variables, 5))
    assert found["gpu"] == Finding("FAIL", "no answer in 5 s", "look at the network, and at what it should reach")
    assert time.monotonic() - began < 40


def test_no_line_has_a_password_of_the_environment(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Finding:
        raise ValueError("cannot open postgres://dagster:hunter22@db with s3cret-key")

    monkeypatch.setattr(doctor, "_gpu", fails)
    found = dict(doctor.diagnose(variables | {"AWS_SECRET_ACCESS_KEY": "s3cret-key"}, 30))["gpu"]
    assert found == Finding("FAIL", "ValueError: cannot open postgres://***@db with ***")


@pytest.mark.parametrize("home", ["", "relative", "/no/such/folder"])
def test_a_dagster_home_that_cannot_be_is_told_with_what_to_do(variables: dict[str, str], home: str) -> None:
    found = findings(variables | {"DAGSTER_HOME": home})["dagster"]
    assert found.status == ("FAIL" if home else "WARN")
    assert found.remedy


def test_a_served_model_that_no_yaml_defines_is_told(variables: dict[str, str]) -> None:
    assert findings(variables)["models"].status == "OK"
    served = ServedVersion(folder="1-a", sha256="a", version="1")
    for name in ("iris", "renamed"):
        folder = Path(variables["MLOPS_HOME"], "serving", "models", name)
        folder.mkdir(parents=True)
        Declaration(champion=served).write(folder)
    found = findings(variables)["models"]
    assert found.status == "WARN"
    assert found.what == "renamed: served, and no YAML defines it any more"
    assert found.remedy.startswith("mlops-assets retire renamed --reason TEXT")
