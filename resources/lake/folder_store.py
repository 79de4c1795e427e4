"""Objects as files below a folder."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import DataError, LakeError, SpecError
from resources.lake.digests import SourceDigests
from resources.lake.object_store import Page, SourceObject, StoredObject, changed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

PAGE = 1_000
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class FolderStore:
    """The `ObjectStore` below one folder of this machine; what is known of its files' digests is kept in `cache`."""

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root, self._digests = root, SourceDigests(cache)

    @classmethod
    def open(cls, uri: str, endpoint_url: str | None, cache: Path | None) -> FolderStore:
        """The store at a path, or at file://path."""
        return cls(Path(uri.removeprefix("file://")).absolute(), cache)

    def list(self, pattern: str) -> list[SourceObject]:
        with self._in_words():
            return self._listed(self.sizes(pattern))

    def pages(self, pattern: str, after: str = "") -> Iterator[Page]:
        left = [(key, size) for key, size in self.sizes(pattern).items() if key > after]
        for start in range(0, len(left), PAGE):
            page = dict(left[start : start + PAGE])
            yield Page(self._listed(page), [*page][-1])

    def _listed(self, sizes: dict[str, int]) -> list[SourceObject]:
        etags = self._digests.of([self.root / key for key in sizes])
        return [
            SourceObject(key=key, etag=etag, size=size) for (key, size), etag in zip(sizes.items(), etags, strict=True)
        ]

    def sizes(self, pattern: str) -> dict[str, int]:
        self._path(pattern)
        found: dict[str, int] = {}
        # In pathlib ** does not mean files, and hidden ones are found
        for key in sorted(set(glob.iglob(pattern, root_dir=self.root, recursive=True))):  # noqa: PTH207
            with suppress(FileNotFoundError):  # it was deleted meanwhile
                if (self.root / key).is_file():
                    found[key] = (self.root / key).stat().st_size
        return found

    def stored(self, folder: str = "") -> Iterator[StoredObject]:
        for place, _, names in os.walk(self._path(folder)):
            for name in names:
                path = Path(place, name)
                with suppress(FileNotFoundError):  # it was deleted meanwhile
                    # A link is never one of ours, and what it leads to may lie elsewhere
                    if not path.is_symlink():
                        state = path.stat()
                        modified = datetime.fromtimestamp(state.st_mtime, UTC)
                        yield StoredObject(path.relative_to(self.root).as_posix(), state.st_size, modified)

    def local_folder(self, prefix: str) -> Path:
        return self._path(prefix)

    def local_path(self, item: SourceObject) -> Path:
        path = self._path(item.key)
        with suppress(FileNotFoundError):
            if path.stat().st_size == item.size and self._digests.still_has(path, item.etag):
                return path
        raise changed(item)

    def download(self, item: SourceObject, target: Path) -> None:
        shutil.copyfile(self.local_path(item), target)

    def upload(self, source: Path, key: str) -> None:
        if source == self._path(key):
            with self._in_words():
                _sync(source)
            return
        with self._in_words(), self._draft(key) as draft:
            shutil.copyfile(source, draft)
            _sync(draft)
            draft.replace(self._path(key))

    def create(self, key: str, content: bytes) -> bool:
        with self._in_words(), self._draft(key) as draft:
            draft.write_bytes(content)
            _sync(draft)
            try:
                os.link(draft, self._path(key))
            except FileExistsError:
                # NFS repeats a request whose answer was lost, and finds the link it has made
                return draft.stat().st_nlink > 1
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                what = f"The file system at {self.root} has no hard links ({error.strerror}), which a lake needs"
                raise SpecError(what, remedy="put the lake on another disk by LAKE_URI or MLOPS_HOME") from error
        return True

    def read(self, key: str) -> bytes | None:
        with self._in_words():
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

    def replace(self, key: str, content: bytes) -> None:
        with self._in_words(), self._draft(key) as draft:
            draft.write_bytes(content)
            _sync(draft)
            draft.replace(self._path(key))

    def delete(self, key: str) -> None:
        with self._in_words():
            self._path(key).unlink(missing_ok=True)

    def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)
        for folder in sorted({parent for key in keys for parent in Path(key).parents if parent.name}, reverse=True):
            with suppress(OSError):  # it is not empty, or gone
                (self.root / folder).rmdir()

    def _path(self, key: str) -> Path:
        """The file of a key; a key never leads out of the root."""
        if key.startswith("/") or ".." in key.split("/"):
            raise DataError(f"{key} leads out of {self.root}", remedy="give a path below it, or an absolute source.uri")
        return self.root / key

    @contextmanager
    def _in_words(self) -> Generator[None]:
        """Say what a file system refuses as every store does: it is full, read-only, or somebody else's."""
        try:
            yield
        except OSError as error:
            what = f"{error.strerror or error} at {error.filename or self.root}"
            raise LakeError(what, remedy="make room or correct the access, and run again") from error

    @contextmanager
    def _draft(self, key: str) -> Generator[Path]:
        """Where to write beside the key's own file; what is there is gone after the block unless it was moved."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / f".{uuid.uuid4().hex}.draft"
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
