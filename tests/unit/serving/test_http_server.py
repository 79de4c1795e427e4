"""How the server stops; what of uvicorn is extended is still called where it was."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from tests.model_servers import model_server

if TYPE_CHECKING:
    from pathlib import Path

BODY = b'{"instances": [{"x": 2}]}'


def test_a_server_that_is_told_to_stop_fails_no_request(tmp_path: Path) -> None:
    """As behind a load balancer, which sends requests until it has seen that the server is not ready."""
    codes, ready = list[int](), list[int]()
    with model_server(tmp_path, "--drain", "1.5") as server:
        until = time.monotonic() + 1.2

        def ask() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            while time.monotonic() < until:
                connection.request("POST", "/v1/models/m:predict", BODY)
                with connection.getresponse() as answer:
                    answer.read()
                    codes.append(answer.status)

        callers = [threading.Thread(target=ask) for _ in range(4)]
        for caller in callers:
            caller.start()
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/v2/models/m/ready")
        ready.append(connection.getresponse().status)
        for caller in callers:
            caller.join()
        assert server.process.wait(30) == -signal.SIGTERM
    assert (set(codes), ready) == ({200}, [503])
    assert len(codes) > 20


def test_a_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    with model_server(tmp_path, "--drain", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == -signal.SIGTERM


def test_uvicorn_still_calls_what_is_extended() -> None:
    assert {"handle_exit", "startup", "shutdown"} <= vars(uvicorn.Server).keys()
