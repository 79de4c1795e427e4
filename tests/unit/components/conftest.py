"""A webhook, a real HTTP server here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.people import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()
