"""Mutual exclusion between processes and machines that share one lake, by nothing but objects that are created once.

Each holder has a number, the key `<name>/lock/<number>.json`, which it has created. The highest number holds the lock
until its object says that it is released, or does not change for the lease. Whoever comes next creates the number
above, and one of them can. The highest number is never deleted, so numbers never begin again, and a process that was
asleep sees that it is late.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import LakeError, LockLost
from resources.local.background_server import started_at

if TYPE_CHECKING:
    from collections.abc import Generator

    from resources.lake.object_store import ObjectStore

LEASE_S = 30.0
POLL_S = (0.05, 1.0)


class HeldLock:
    """A lock that this process holds. A thread says three times in each lease that it still does."""

    def __init__(self, store: ObjectStore, name: str, number: int, content: dict[str, object], lease_s: float) -> None:
        self.store, self.name, self.number = store, name, number
        self._content, self._pause_s = content, lease_s / 3
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._say_so, daemon=True)

    def check(self) -> None:
        """Look that the lock is still held; call it right before what nobody else may do meanwhile.

        Raises:
            LockLost: another took it over, because this process was not heard of for the lease.
            LakeError: the lake is away.
        """
        if _newest(self.store, self.name) != self.number:
            what = f"The lock of {self.name} was taken over, because nothing was heard of this process for too long"
            raise LockLost(what, remedy="materialize again")

    @contextmanager
    def held(self) -> Generator[HeldLock]:
        """Hold it while the block runs."""
        self._beats.start()
        try:
            yield self
            self.check()
        finally:
            self._ended.set()
            self._beats.join()
            with suppress(LakeError, OSError):  # the lease ends it then
                self._write(released=True)

    def _say_so(self) -> None:
        beat = 0
        while not self._ended.wait(self._pause_s):
            beat += 1
            with suppress(LakeError, OSError):  # the next one may get through, and `check` tells when none did
                self._write(beat=beat)

    def _write(self, **state: object) -> None:
        self.store.replace(_key(self.name, self.number), json.dumps(self._content | state).encode())


@contextmanager
def lake_lock(store: ObjectStore, name: str, *, wait_s: float, lease_s: float = LEASE_S) -> Generator[HeldLock]:
    """Run the block while nobody else does so under `name`.

    A holder that was killed blocks others on its machine no longer, and others for `lease_s`.

    Raises:
        LakeError: others held it for `wait_s`; or, at the end of the block, it was taken over meanwhile.
    """
    # The id tells this attempt from others of this process, so that a lost answer of `create` does no harm
    content: dict[str, object] = {"owner": _owner(), "id": uuid.uuid4().hex, "time": time.time()}
    number = _acquire(store, name, json.dumps(content).encode(), wait_s, lease_s)
    with HeldLock(store, name, number, content, lease_s).held() as held:
        yield held


def _acquire(store: ObjectStore, name: str, content: bytes, wait_s: float, lease_s: float) -> int:
    deadline, pause_s = time.monotonic() + wait_s, POLL_S[0]
    seen, since = b"", time.monotonic()
    while True:
        newest = _newest(store, name)
        state = (store.read(_key(name, newest)) or b"") if newest else b""
        if state != seen:
            seen, since = state, time.monotonic()
        is_free = newest == 0 or _is_over(state) or time.monotonic() - since > lease_s
        if is_free and store.create(_key(name, newest + 1), content):
            if _newest(store, name) == newest + 1:
                _remove_older(store, name, newest + 1)
                return newest + 1
            store.delete(_key(name, newest + 1))  # it was free for a number that has gone since: this came too late
        if time.monotonic() > deadline:
            what = f"The lock of {name} was held by others for {wait_s:.0f} s, now by {_parsed(state).get('owner')}"
            raise LakeError(what, remedy="wait for that run to end, or end it, and materialize again")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, POLL_S[1])


def _newest(store: ObjectStore, name: str) -> int:
    return max(_numbers(store, name), default=0)


def _numbers(store: ObjectStore, name: str) -> list[int]:
    names = [Path(key).stem for key in store.sizes(f"{name}/lock/*.json")]
    return [int(name) for name in names if name.isdecimal()]


def _remove_older(store: ObjectStore, name: str, number: int) -> None:
    with suppress(LakeError, OSError):  # the next holder does it
        for older in _numbers(store, name):
            if older < number:
                store.delete(_key(name, older))


def _key(name: str, number: int) -> str:
    return f"{name}/lock/{number:08d}.json"


def _is_over(state: bytes) -> bool:
    """Whether a holder has released the lock, or was a process of this machine that is gone."""
    content = _parsed(state)
    machine, _, process = str(content.get("owner", "")).partition("/")
    pid, _, started = process.partition("@")
    is_gone = machine == _machine() and pid.isdecimal() and started_at(int(pid)) != started
    return bool(content.get("released")) or is_gone


def _parsed(state: bytes) -> dict[str, object]:
    try:
        content = json.loads(state)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _owner() -> str:
    return f"{_machine()}/{os.getpid()}@{started_at(os.getpid())}"


@cache
def _machine() -> str:
    """What tells the processes of one boot of one machine, or of one container, from all others."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # not on Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text()[:8], str(Path("/proc/self/ns/pid").readlink())]
    return "-".join(parts)
