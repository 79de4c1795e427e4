"""A local server: started once, found again, and told why it does not start."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import ServerError
from resources.local.background_server import BackgroundServer, started_at
from tests.support import free_port

if TYPE_CHECKING:
    from pathlib import Path

    pass


def server(folder: Path, port: int, program: str) -> BackgroundServer:
    return BackgroundServer(folder, "serving", port, "/", [sys.executable, "-c", program], {})


LISTEN = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"


def test_a_background_server_is_started_once_and_stopped(tmp_path: Path) -> None:
    port = free_port()
    first = server(tmp_path, port, LISTEN.format(port=port))
    url = first.ensure_running()
    pid = first.pid()
    second = server(tmp_path, port, LISTEN.format(port=port))
    assert second.ensure_running() == url
    assert second.pid() == pid
    assert second.stop()
    assert first.pid() is None
    assert not first.stop()


def test_a_server_that_cannot_start_gives_the_end_of_its_log(tmp_path: Path) -> None:
    broken = server(tmp_path, free_port(), "raise SystemExit('no licence found')")
    with pytest.raises(ServerError, match="no licence found"):
        broken.ensure_running()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    port = free_port()
    other = server(tmp_path / "other", port, LISTEN.format(port=port))
    other.ensure_running()
    try:
        with pytest.raises(ServerError, match=f"Port {port} for serving is taken.*SERVING_PORT"):
            server(tmp_path / "mine", port, LISTEN.format(port=port)).ensure_running()
    finally:
        other.stop()


def test_a_pid_that_was_given_to_another_process_is_not_the_server(tmp_path: Path) -> None:
    idle = server(tmp_path, free_port(), "")
    (tmp_path / "serving.json").write_text(json.dumps({"pid": os.getpid(), "started_at": "1.00"}))
    assert idle.pid() is None
    assert started_at(os.getpid()) is not None
