"""Objects as files below a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resources.lake.object_store import SourceObject, changed

if TYPE_CHECKING:
    from collections.abc import Generator


class FolderStore:
    """The `ObjectStore` below one folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls, uri: str, endpoint_url: str | None) -> FolderStore:
        """The store at a path, or at file://path."""
        return cls(Path(uri.removeprefix("file://")).absolute())

    def list(self, pattern: str) -> list[SourceObject]:
        files = sorted(path for path in self.root.glob(pattern) if path.is_file() and not path.name.startswith("."))
        return [self._listed(path) for path in files]

    def _listed(self, path: Path) -> SourceObject:
        state = path.stat()
        etag = hashlib.md5(f"{state.st_size}-{state.st_mtime_ns}".encode(), usedforsecurity=False).hexdigest()
        return SourceObject(key=path.relative_to(self.root).as_posix(), etag=etag, size=state.st_size)

    def local_folder(self, prefix: str) -> Path:
        return self.root / prefix

    def local_path(self, item: SourceObject) -> Path:
        path = self.root / item.key
        try:
            if self._listed(path) == item:
                return path
        except FileNotFoundError:
            pass
        raise changed(item)

    def download(self, item: SourceObject, target: Path) -> None:
        shutil.copyfile(self.local_path(item), target)

    def upload(self, source: Path, key: str) -> None:
        if source == self.root / key:
            _sync(source)
            return
        with self._draft(key) as draft:
            shutil.copyfile(source, draft)
            _sync(draft)
            draft.replace(self.root / key)

    def create(self, key: str, content: bytes) -> bool:
        with self._draft(key) as draft:
            draft.write_bytes(content)
            _sync(draft)
            try:
                os.link(draft, self.root / key)
            except FileExistsError:
                return False
        return True

    def read(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def replace(self, key: str, content: bytes) -> None:
        with self._draft(key) as draft:
            draft.write_bytes(content)
            _sync(draft)
            draft.replace(self.root / key)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    @contextmanager
    def _draft(self, key: str) -> Generator[Path]:
        """Where to write beside the key's own file; what is there is gone after the block unless it was moved."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
