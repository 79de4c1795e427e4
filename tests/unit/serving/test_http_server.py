"""How the server keeps and ends connections; what of uvicorn is extended is still called where it was."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.model_servers import ModelServer, model_server
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = b'{"instances": [{"x": 2}]}'
POST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 25\r\n"
IMPATIENT = """
from mlops_assets.serving.limits import Limits
Limits.model_fields["header_s"].default = Limits.model_fields["body_s"].default = 1
Limits.model_rebuild(force=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server that waits a second for headers and bodies."""
    with model_server(tmp_path_factory.mktemp("server"), lines=IMPATIENT) as found:
        yield found


def connected(server: ModelServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mod", POST, POST + b"\r\n", POST + b"\r\n" + BODY[:9]])
def test_a_connection_that_does_not_say_what_it_wants_is_closed(server: ModelServer, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""


def test_a_caller_that_sends_a_byte_now_and_then_is_not_waited_for_for_ever(server: ModelServer) -> None:
    with connected(server) as connection:
        sent = 0
        try:
            for byte in POST:
                connection.sendall(bytes([byte]))
                sent += 1
                time.sleep(0.1)
        except OSError:
            pass
        assert 5 < sent < len(POST)


def test_a_connection_is_kept_between_requests_however_they_come(server: ModelServer) -> None:
    with connected(server) as connection:
        for parts in ((POST + b"\r\n" + BODY,), (POST, b"\r\n", BODY[:5], BODY[5:])):
            for part in parts:
                connection.sendall(part)
                time.sleep(0.1)
            assert b"HTTP/1.1 200 OK" in connection.recv(4_096)
            time.sleep(1.5)


def test_two_requests_in_one_packet_are_answered_in_turn(server: ModelServer) -> None:
    with connected(server) as connection:
        connection.sendall((POST + b"\r\n" + BODY) * 2)
        wait_until(lambda: connection.recv(8_192, socket.MSG_PEEK).count(b"HTTP/1.1 200 OK") == 2)


def test_a_body_that_is_refused_before_it_has_come_does_not_disturb_the_next_request(server: ModelServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/models/m:predict", b" " * (9 << 20))
    with connection.getresponse() as answer:
        assert (answer.status, json.load(answer)) == (413, {"error": "the body is larger than 8 MiB"})
    connection.request("POST", "/v1/models/m:predict", BODY)
    with connection.getresponse() as answer:
        assert answer.status == 200


def test_no_answer_tells_what_the_server_is_made_of(server: ModelServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/")
    with connection.getresponse() as answer:
        assert "server" not in {name.lower() for name, _ in answer.getheaders()}


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
    assert {"on_message_begin", "on_headers_complete", "on_message_complete"} <= vars(HttpToolsProtocol).keys()
    assert "handle_exit" in vars(uvicorn.Server)


def test_a_caller_that_will_close_the_connection_gets_the_reason_for_a_body_that_is_too_large(
    server: ModelServer,
) -> None:
    """As urllib does: an answer before the end of the body, and a connection that is reset, would be lost."""
    request = urllib.request.Request(f"{server.url}/v1/models/m:predict", b" " * (40 << 20))
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        assert caught.value.code == 413
