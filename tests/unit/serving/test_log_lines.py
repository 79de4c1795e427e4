"""The log of a real model server: a line for what went wrong, none for the rest, and none that a caller forges."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.log_lines import LONGEST_LINE, OneLine
from resources.serving.local_serving import LocalServing
from tests.artifacts import write_artifact
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAST = re.compile(r"/[0-9a-f-]{36}: 404")
GOOD = json.dumps({"instances": [{"x": 2}]}).encode()


class Server:
    """A running model server with one model, `m`, and what it logs."""

    def __init__(self, folder: Path) -> None:
        serving = LocalServing(state=str(folder), port=free_port())
        signature = write_artifact(serving.models / "m" / "1")
        version = ServedVersion(folder="1", sha256=signature.sha256, version="1")
        Declaration(champion=version).write(serving.models / "m")
        self.process = serving.server
        self.process.ensure_running()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=10)
        self.seen = 0
        self.new_lines()

    def request(self, method: str, path: str, body: bytes | None = None) -> int:
        self.connection.request(method, path, body)
        response = self.connection.getresponse()
        response.read()
        return response.status

    def new_lines(self) -> list[str]:
        """What was logged since the last call; a last bad request says that all before it is there."""
        assert self.request("GET", f"/{uuid.uuid4()}") == 404
        deadline = time.monotonic() + 10
        while True:
            lines = self.process.log.read_text().splitlines()
            if end := [line for line in lines[self.seen :] if LAST.search(line)]:
                before, self.seen = lines[self.seen : lines.index(end[0])], len(lines)
                return before
            assert time.monotonic() < deadline, lines
            time.sleep(0.01)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("serving"))
    yield made
    made.process.stop()


@pytest.fixture
def server(running: Server) -> Server:
    running.new_lines()
    return running


def test_requests_that_went_well_write_no_line(server: Server) -> None:
    codes = {server.request("POST", "/v1/models/m:predict", GOOD) for _ in range(200)}
    codes |= {server.request("GET", path) for path in ("/v2/health/live", "/v2/models/m", "/v2/models/m/ready")}
    codes.add(server.request("GET", "/metrics"))
    assert codes == {200}
    assert server.new_lines() == []


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("POST", "/v1/models/m:predict", 400, "column x is missing"),
        ("POST", "/v1/models/n:predict", 404, "there is no model 'n'"),
        ("POST", "/v2/repository/models/n/load", 401, "whoever loads models shows the server's token"),
        ("GET", "/v2/models/n", 404, "there is no model 'n'"),
        ("POST", "/v2/repository/models/n/unload", 404, "there is no such route"),
        ("DELETE", "/v2/models/m", 405, "GET is allowed alone"),
    ],
)
def test_a_request_that_went_wrong_writes_one_line_with_the_reason(
    server: Server, method: str, path: str, code: int, reason: str
) -> None:
    assert server.request(method, path, b'{"instances": [{}]}' if method == "POST" else None) == code
    [line] = server.new_lines()
    assert f"WARNING mlops_assets.serving: 127.0.0.1 {method} {path}: {code} " in line
    assert reason in line


def test_no_caller_can_forge_a_line_or_make_it_long(server: Server) -> None:
    forged = "%0A2026-01-01%20ERROR%20forged%0D%1B%5B31m%E2%80%AE"
    value = json.dumps({"instances": [{"x": "\n2026 ERROR forged\u2028"}]}).encode()
    server.request("POST", f"/v1/models/{forged}:predict", GOOD)
    server.request("GET", f"/v2/models/{forged}")
    server.request("POST", "/v1/models/m:predict", value)
    server.request("GET", f"/v2/models/{'n' * 30_000}")
    server.request("POST", "/v1/models/m:predict", json.dumps({"instances": [{"y" * 100_000: 1}]}).encode())
    lines = server.new_lines()
    assert len(lines) == 5
    assert all(line.isprintable() and len(line) <= LONGEST_LINE and line[:2] == "20" for line in lines), lines
    assert not any(line.startswith("2026-01-01") for line in lines)


def even(depth: int) -> None:
    odd(depth - 1)


def odd(depth: int) -> None:
    if depth < 0:
        raise ValueError("at last")
    even(depth - 1)


def test_a_traceback_is_one_line_that_ends_with_what_happened() -> None:
    with pytest.raises(ValueError, match="at last") as failure:
        even(60)
    record = logging.LogRecord("n", logging.ERROR, "", 0, "m: 500", (), (failure.type, failure.value, failure.tb))
    line = OneLine("%(message)s").format(record)
    assert line.startswith("m: 500\\nTraceback")
    assert line.endswith("ValueError: at last")
    assert line.isprintable()
    assert len(line) == LONGEST_LINE


def test_the_server_answers_on_when_nobody_writes_its_log_any_more(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        record = json.loads((tmp_path / "serving.json").read_text())
        os.kill(record["log_writer"]["pid"], signal.SIGKILL)
        answers = [server.request("POST", "/v1/models/m:predict", body) for body in (b"{", GOOD) * 50]
        assert answers == [400, 200] * 50
    finally:
        server.process.stop()
