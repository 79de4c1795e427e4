"""The load generator against real servers: what it counts, and how it ends when they do not answer as they should."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import grpc
import pytest

from bench import load as module
from bench.load import Load, load, load_grpc, summary

if TYPE_CHECKING:
    from collections.abc import Generator

PROJECT = Path(__file__).parents[3]
BODY = b'{"instances": [1]}'


class Answering(BaseHTTPRequestHandler):
    """Counts requests that came whole, and answers them; each test says how."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 200
    closes: ClassVar[bool] = False
    bodies: ClassVar[list[bytes]]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        content = b"what was wrong" if self.status != 200 else b"{}"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        if self.closes:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the standard error."""


@contextmanager
def server(**how: object) -> Generator[tuple[str, list[bytes]]]:
    """The URL of a server, and the bodies that it was sent."""
    bodies = list[bytes]()
    handler = type("Handler", (Answering,), {"bodies": bodies, **how})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/predict", bodies
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def loaded(url: str, connections: int = 3, seconds: float = 0.3) -> Load:
    return asyncio.run(load(url, BODY, seconds, connections))


def test_each_answer_counts_once_and_each_connection_asks_again() -> None:
    with server() as (url, bodies):
        found = loaded(url)
    assert (found.errors, found.example) == (0, "")
    assert len(bodies) > 3
    assert set(bodies) == {BODY}
    assert 0 < found.p50_ms <= found.p99_ms
    assert found.requests_per_s > 0


def test_an_answer_that_is_an_error_is_counted_as_such_with_what_it_says() -> None:
    with server(status=503) as (url, bodies):
        found = loaded(url)
    assert (found.requests_per_s, found.errors) == (0, len(bodies))
    assert found.example == "503 what was wrong"


def test_a_server_that_closes_the_connection_after_each_answer_ends_it() -> None:
    with server(closes=True) as (url, bodies):
        found = loaded(url, seconds=60)
    assert (len(bodies), found.errors) == (3, 3)
    assert found.example == "the connection was closed: None"
    assert found.requests_per_s > 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", b"this is no HTTP\r\n\r\n"])
def test_an_answer_that_breaks_off_is_an_error(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        found = loaded(f"http://127.0.0.1:{listening.getsockname()[1]}/", connections=1, seconds=60)
        thread.join()
    assert (found.errors, found.requests_per_s) == (1, 0)
    assert found.example.startswith("the connection was closed: ")


def test_a_server_that_never_answers_is_left_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = loaded(f"http://127.0.0.1:{listening.getsockname()[1]}/", connections=2)
    assert (found.errors, found.example) == (2, "no answer came")


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    with pytest.raises(ConnectionRefusedError):
        loaded(url)


def test_the_percentiles_are_those_of_the_answers() -> None:
    found = summary([second / 1000 for second in range(100, 0, -1)], ["500 a", "500 b"], took=4)
    assert (found.p50_ms, found.p99_ms) == pytest.approx((50.5, 99.99))
    assert (found.requests_per_s, found.errors, found.example) == (25, 2, "500 a")


@pytest.mark.parametrize("latencies", [[], [0.002]])
def test_of_less_than_two_answers_there_are_no_percentiles(latencies: list[float]) -> None:
    found = summary(latencies, [], took=2)
    assert (found.p50_ms, found.p99_ms, found.requests_per_s) == (0, 0, len(latencies) / 2)


def test_the_program_reads_the_body_and_prints_what_it_found() -> None:
    with server() as (url, bodies):
        command = [sys.executable, "-m", "bench.load", url, "0.2", "2"]
        done = subprocess.run(command, input=BODY, capture_output=True, check=True, cwd=PROJECT)
    found = Load.model_validate(json.loads(done.stdout))
    assert found.errors == 0
    assert set(bodies) == {BODY}


def test_a_method_of_grpc_is_asked_over_as_many_connections() -> None:
    peers = set[str]()

    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        peers.add(context.peer())
        if request == b"odd":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "what was wrong")
        return request

    async def asked(body: bytes) -> Load:
        handlers = {"Ask": grpc.unary_unary_rpc_method_handler(answer)}
        listening = grpc.aio.server()
        listening.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
        port = listening.add_insecure_port("127.0.0.1:0")
        await listening.start()
        try:
            return await load_grpc(f"grpc://127.0.0.1:{port}/test.Test/Ask", body, 0.5, 3)
        finally:
            await listening.stop(None)

    found = asyncio.run(asked(b"good"))
    assert (found.errors, len(peers)) == (0, 3)
    assert found.requests_per_s > 10
    found = asyncio.run(asked(b"odd"))
    assert (found.errors, found.example) == (3, "what was wrong")
