"""An API server for the tests of its clients."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from resources.kubernetes import api
from tests.kubernetes_api import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def api_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    from kubernetes import client
    from urllib3 import Retry

    found = ApiServer()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{found.server_port}"
    monkeypatch.setattr(client.Configuration, "_default", configuration)
    monkeypatch.setattr(Retry, "get_backoff_time", lambda _: 0)
    monkeypatch.setattr(api.time, "sleep", lambda _: None)
    for client_of in (api.api_client, api.log_client):
        client_of.cache_clear()
    yield found
    for client_of in (api.api_client, api.log_client):
        client_of.cache_clear()
    found.shutdown()
