"""SHA-256 of files, each read once: files of snapshots once per process, source files once until they change."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

THREADS = 4
SETTLED_S = 2.0
"""File systems give times as coarse as this: a file younger than that may change and keep its time."""

_OF_THIS_PROCESS: dict[tuple[str, ...], str] = {}


def sha256(path: Path) -> str:
    """Digest of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file that is written once and then left alone; this process reads it once."""
    state = (str(path.absolute()), *_state(path.stat()))
    if state not in _OF_THIS_PROCESS:
        _OF_THIS_PROCESS[state] = sha256(path)
    return _OF_THIS_PROCESS[state]


def moved(source: Path, target: Path) -> None:
    """Know the digest of a file that was moved from `source` to `target`."""
    state = _state(target.stat())
    if known := _OF_THIS_PROCESS.get((str(source.absolute()), *state)):
        _OF_THIS_PROCESS[(str(target.absolute()), *state)] = known


class SourceDigests:
    """Digests of files that others write, kept in `folder` for later processes, or for this object's life without one.

    A digest holds while path, size, inode and the times of the last change stay, if those were not recent when the
    file was read. What cannot be kept is computed again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = folder / "source_digests.db" if folder else None
        self._known: dict[str, tuple[str, str]] = {}
        self._is_loaded = False

    def of(self, paths: Sequence[Path]) -> list[str]:
        """The digest of each file.

        Raises:
            FileNotFoundError: a file is gone.
        """
        self._load()
        with ThreadPoolExecutor(THREADS) as pool:
            digests = list(pool.map(self._digest, paths))
        fresh = [(str(path), *found) for path, (_, found) in zip(paths, digests, strict=True) if found]
        self._known |= {path: (state, digest) for path, state, digest in fresh}
        self._keep(fresh)
        return [digest for digest, _ in digests]

    def still_has(self, path: Path, digest: str) -> bool:
        """Whether a file that was listed before has this digest now.

        Raises:
            FileNotFoundError: it is gone.
        """
        found, fresh = self._digest(path)
        if fresh:
            self._known[str(path)] = fresh
        return found == digest

    def _digest(self, path: Path) -> tuple[str, tuple[str, str] | None]:
        """The digest, and what is to be remembered of it."""
        began = time.time()
        before = path.stat()
        state = " ".join((*_state(before), str(before.st_ctime_ns)))
        known = self._known.get(str(path))
        if known and known[0] == state:
            return known[1], None
        digest, after = sha256(path), path.stat()
        is_settled = began - max(before.st_mtime, before.st_ctime) > SETTLED_S
        is_same = (*_state(after), after.st_ctime_ns) == (*_state(before), before.st_ctime_ns)
        return digest, (state, digest) if is_settled and is_same else None

    def _load(self) -> None:
        if self._is_loaded or self._file is None or not self._file.exists():
            return
        self._is_loaded = True
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._file, timeout=5)) as database:
            rows = database.execute("SELECT path, state, digest FROM digests").fetchall()
            self._known |= {path: (state, digest) for path, state, digest in rows}

    def _keep(self, fresh: Sequence[tuple[str, str, str]]) -> None:
        if self._file is None or not fresh:
            return
        with suppress(sqlite3.Error, OSError):  # they are computed again then
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file, timeout=5)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, state TEXT, digest TEXT)")
                database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", fresh)


def _state(state: os.stat_result) -> tuple[str, ...]:
    return str(state.st_size), str(state.st_mtime_ns), str(state.st_dev), str(state.st_ino)
