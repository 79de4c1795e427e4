"""What several tests of components need: people to tell, real servers here, and a loop of drift and retrains."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import dagster as dg
import pytest

from tests.people import MailServer, Webhook
from tests.retraining import Loop

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

Made = TypeVar("Made", Webhook, MailServer)


@contextmanager
def running(made: Made) -> Generator[Made]:
    """A server in a thread of its own."""
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running(Webhook()) as made:
        yield made


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with running(MailServer()) as made:
        yield made


@pytest.fixture
def loop(tmp_path: Path, mlflow_uri: str) -> Iterator[Loop]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield Loop(tmp_path, mlflow_uri, instance)
