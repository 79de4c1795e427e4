"""A server's log stays bounded while the server runs, and nothing of its last lines is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from resources.local import log_writer
from resources.local.background_server import BackgroundServer
from tests.support import free_port

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
import os, sys, http.server
os.write(1, b"x" * 100_000 + b"\\n" + b"\\xff\\n")
for number in range(400_000):
    print(f"line {number:09} of a server that says the same all the time")
sys.stdout.flush()
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


def test_a_servers_log_is_bounded_while_it_runs(tmp_path: Path) -> None:
    port = free_port()
    server = BackgroundServer(tmp_path, "loud", port, "/", [sys.executable, "-c", SERVER, str(port)], {})
    server.ensure_running()
    try:
        deadline = time.monotonic() + 30
        while "line 000399999 of" not in server.tail() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "line 000399999 of" in server.tail()
        files = sorted(path.name for path in tmp_path.glob("loud.log*"))
        assert files == ["loud.log", "loud.log.1"]
        assert all((tmp_path / name).stat().st_size <= log_writer.LARGEST for name in files)
    finally:
        server.stop()


def test_a_writer_ends_with_the_last_who_can_write_to_it_and_appends_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    command = [sys.executable, "-I", "-S", log_writer.__file__, str(tmp_path / "log")]
    subprocess.run(command, input=b"a\r\nlast without an end", check=True, timeout=20)
    assert (tmp_path / "log").read_bytes() == b"before\na\r\nlast without an end\n"
