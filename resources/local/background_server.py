"""Servers of the local platform: processes that are started once and outlive the run that started them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import ServerError
from resources.local import log_writer

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


class BackgroundServer:
    """One server process, known by the files `<name>.json` (its pid and start time) and `<name>.log` in `folder`.

    The log is bounded: what is older than its last 4 MiB lies in `<name>.log.1`, and what is older than that is gone.

    Of several processes that start it at once one does, and the others use that one.
    """

    def __init__(
        self, folder: Path, name: str, port: int, health: str, command: Sequence[str], environment: dict[str, str]
    ) -> None:
        self.folder, self.name, self.port = folder, name, port
        self.command, self.environment = list(command), environment
        self.url = f"http://127.0.0.1:{port}"
        self.health = f"{self.url}{health}"

    @property
    def log(self) -> Path:
        """Where the server writes."""
        return self.folder / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}.json"

    def pid(self) -> int | None:
        """The pid of the running server, or None."""
        return _running(self._read_record())

    def _read_record(self) -> dict[str, Any]:
        try:
            return json.loads(self._record.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}

    def launch(self) -> None:
        """Start the server unless it runs, and do not wait for it."""
        with self._alone():
            if self.pid():
                return
            if not self._port_gets_free():
                raise ServerError(
                    f"Port {self.port} for {self.name} is taken by another program",
                    remedy=f"stop that, or choose another port by {self.name.upper()}_PORT",
                )
            writer = subprocess.Popen(
                [sys.executable, "-I", "-S", log_writer.__file__, str(self.log)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert writer.stdin is not None
            with writer.stdin as log:
                process = subprocess.Popen(
                    self.command,
                    env=os.environ | self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=self.folder,
                )
            record = _recorded(process.pid) | {"log_writer": _recorded(writer.pid)}
            self._record.write_text(json.dumps(record))

    def ensure_running(self, timeout_s: float = 60) -> str:
        """The server's URL, once it answers; it is started when it does not run."""
        self.launch()
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if not self.pid():
                self._await_log()
                raise ServerError(f"{self.name} stopped while it started; the end of {self.log}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} does not answer at {self.health} after {timeout_s:.0f} s", remedy=f"see {self.log}"
                )
            time.sleep(0.05)
        return self.url

    def _port_gets_free(self, timeout_s: float = 5) -> bool:
        """Whether nobody listens on the port: the threads of a server that was killed hold it a moment longer."""
        deadline = time.monotonic() + timeout_s
        while port_is_taken(self.port):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def answers(self) -> bool:
        """Whether its health address answers."""
        try:
            with urllib.request.urlopen(self.health, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _await_log(self, timeout_s: float = 5) -> None:
        """Wait until all that a server which has ended wrote lies in its log."""
        writer = self._read_record().get("log_writer", {})
        deadline = time.monotonic() + timeout_s
        while _running(writer) and time.monotonic() < deadline:
            _reap(writer["pid"])
            time.sleep(0.01)

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self, grace_s: float = 10) -> bool:
        """End the server and what it has started; whether it ran."""
        with self._alone():
            pid = self.pid()
            if pid is None:
                return False
            os.killpg(pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self.pid() and time.monotonic() < deadline:
                _reap(pid)
                time.sleep(0.05)
            if self.pid():
                os.killpg(pid, signal.SIGKILL)
            self._await_log()
            self._record.unlink(missing_ok=True)
            return True

    @contextmanager
    def _alone(self) -> Generator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _recorded(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started_at": started_at(pid)}


def _running(record: dict[str, Any]) -> int | None:
    """The pid of a recorded process that still runs."""
    return record["pid"] if record and started_at(record["pid"]) == record["started_at"] else None


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # another process is its parent
        os.waitpid(pid, os.WNOHANG)


def started_at(pid: int) -> str | None:
    """When the process with this pid was started, so that a reused pid is not taken for it; None when it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def port_is_taken(port: int) -> bool:
    """Whether something listens on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
