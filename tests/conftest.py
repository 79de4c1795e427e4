"""Real servers for the tests: an MLflow server for the session, and a model server for each test that deploys."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from resources.environment import Environment
from tests.postgres import postgres_server
from tests.stored_views import put_rows, put_wind
from tests.support import Platform, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# How long an example takes is the machine's; speed belongs in `make bench`
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
# For the S3 API on this machine; nobody's own are used
os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}


def pytest_runtest_setup() -> None:
    """CI has its time: what has not begun when that is nearly over is skipped, so that it can tell what was seen."""
    if time.time() > float(os.environ.get("MLOPS_TESTS_UNTIL", "inf")):
        pytest.skip("no time is left on this slow machine (MLOPS_TESTS_UNTIL): run it by hand")


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What a test, or a library in it, writes into the environment is gone after it: it would name a lake or an MLflow
    to the tests that come after.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server."""
    home = tmp_path_factory.mktemp("mlflow")
    environment = Environment.read({"MLOPS_HOME": str(home), "MLFLOW_PORT": str(free_port())})
    server = environment.mlflow_server()
    yield server.ensure_running()
    server.stop()


@pytest.fixture
def platform(tmp_path: Path, mlflow_uri: str) -> Iterator[Platform]:
    """The whole platform on a temporary folder."""
    made = Platform(tmp_path, mlflow_uri)
    yield made
    made.serving.stop()


@pytest.fixture
def stored_platform(platform: Platform) -> Platform:
    """The platform with rows of the weather, and a view of the wind in Bern alone."""
    put_rows(platform)
    put_wind(platform, hours=200)
    return platform


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a real PostgreSQL database."""
    with postgres_server() as address:
        yield address


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 API on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
