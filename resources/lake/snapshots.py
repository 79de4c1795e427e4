"""Immutable sets of files below `<prefix>/<version>`, published by a manifest that one writer can create, last."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints, ValidationError

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value
from resources.lake.digests import file_digest, moved
from resources.lake.lake_lock import lake_lock

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from resources.lake.object_store import ObjectStore

AT_ONCE = 8
PLACE = r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*"
FileName = Annotated[str, StringConstraints(pattern=r"^[^./\\\x00][^/\\\x00]*$")]


class PublishedFile(Value):
    """A file of a snapshot. Its name is one plain part of a path."""

    name: FileName
    size: int
    sha256: str


class Manifest(Value):
    """What a snapshot consists of; a folder without one does not exist for any reader."""

    version: str
    folder: str = Field(pattern=rf"^{PLACE}/[0-9a-f]{{32}}$")
    files: tuple[PublishedFile, ...]


class Snapshots:
    """The snapshots of a lake; those of a remote one are kept in `cache` as they are fetched.

    Readers change nothing. A writer that finds a damaged snapshot where its own is to be sets that aside.
    """

    def __init__(self, store: ObjectStore, uri: str, cache: Path) -> None:
        self.store, self.uri, self.cache = store, uri, cache

    def find(self, prefix: str, version: str) -> Manifest | None:
        """The manifest of a snapshot whose files are all there unharmed, or None."""
        found = self._look(prefix, version)
        return found if isinstance(found, Manifest) else None

    def fetch(self, prefix: str, version: str) -> Path:
        """A local folder with the files of a snapshot.

        Raises:
            DataError: there is no such snapshot, or its files are not those of its manifest.
        """
        found = self._look(prefix, version)
        if isinstance(found, str):
            what = f"There is no complete snapshot {prefix}/{version} in {self.uri}: {found}"
            raise DataError(what, remedy="materialize its asset again")
        return self.local_folder(found)

    def local_folder(self, manifest: Manifest) -> Path:
        """A local folder with the files of a manifest that was found, unharmed."""
        local = self.store.local_folder(manifest.folder)
        if local is not None:
            return local
        target = self.cache / manifest.folder
        if not _is_whole(target, manifest):
            self._download(manifest, target)
        return target

    @contextmanager
    def publishing(self, prefix: str, version: str) -> Generator[Path]:
        """An empty local folder to write into; when the block ends well, its files become snapshot `version`.

        Where another writer has published the same version meanwhile, theirs counts and this one is dropped.
        """
        attempt = f"{prefix}/{version}/{uuid.uuid4().hex}"
        local = self.store.local_folder(attempt)
        draft = local or self._scratch_folder()
        draft.mkdir(parents=True, exist_ok=True)
        is_published = False
        try:
            yield draft
            manifest = _manifest_of(draft, version, attempt)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                names = [file.name for file in manifest.files]
                list(pool.map(lambda name: self.store.upload(draft / name, f"{attempt}/{name}"), names))
            is_published = self._create(prefix, version, manifest.model_dump_json(indent=1).encode())
            if is_published and local is None:
                _move(draft, self.cache / attempt, names)
        finally:
            if local is None or not is_published:
                shutil.rmtree(draft, ignore_errors=True)

    def _look(self, prefix: str, version: str) -> Manifest | str:
        """The manifest of a snapshot that is whole, or what is wrong."""
        key = _manifest_key(prefix, version)
        content = self.store.read(key)
        if content is None:
            return "it was not published"
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            return f"{key} is damaged ({error.errors()[0]['msg']})"
        if manifest.folder.rpartition("/")[0] != f"{prefix}/{version}":
            return f"{key} names the folder {manifest.folder}, which is not its own"
        sizes = self.store.sizes(f"{manifest.folder}/*")
        local = self.store.local_folder(manifest.folder)
        for file in manifest.files:
            found = f"{manifest.folder}/{file.name}"
            if sizes.get(found) != file.size:
                return f"{found} has {sizes[found]} bytes of {file.size}" if found in sizes else f"{found} is missing"
            if local is not None and file_digest(local / file.name) != file.sha256:
                return f"{found} does not have its digest"
        return manifest

    def _create(self, prefix: str, version: str, content: bytes) -> bool:
        """Whether the manifest is published; it is not where another writer's snapshot is there and whole."""
        key = _manifest_key(prefix, version)
        if self.store.create(key, content):
            return True
        if self.find(prefix, version):
            return False
        with lake_lock(self.store, f"{prefix}/{version}", wait_s=60):
            damaged = self.store.read(key)
            if damaged is not None:
                if self.find(prefix, version):
                    return False
                self.store.replace(f"{prefix}/{version}/damaged-{uuid.uuid4().hex}.json", damaged)
                self.store.delete(key)
            return self.store.create(key, content)

    def _download(self, manifest: Manifest, target: Path) -> None:
        draft = self._scratch_folder()
        try:
            listed = {item.key: item for item in self.store.list(f"{manifest.folder}/*")}

            def download(file: PublishedFile) -> None:
                key = f"{manifest.folder}/{file.name}"
                self.store.download(listed[key], draft / file.name)
                if file_digest(draft / file.name) != file.sha256:
                    what = f"{key} in {self.uri} does not have the digest its manifest gives"
                    raise DataError(what, remedy="delete the manifest beside it and materialize its asset again")

            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(download, manifest.files))
            if target.exists():  # and is not whole
                target.rename(self._scratch_folder() / "damaged")
            _move(draft, target, [file.name for file in manifest.files])
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _scratch_folder(self) -> Path:
        self.cache.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.cache))


def _manifest_of(folder: Path, version: str, attempt: str) -> Manifest:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    try:
        published = [PublishedFile(name=f.name, size=f.stat().st_size, sha256=file_digest(f)) for f in files]
        return Manifest(version=version, folder=attempt, files=tuple(published))
    except ValidationError as error:
        what = f"{error.errors()[0]['input']!r} cannot be part of a snapshot"
        raise DataError(what, remedy="choose a name without slashes, that does not begin with a dot") from error


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether a folder holds exactly the files of a manifest."""
    wanted = {file.name: file for file in manifest.files}
    found = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    return found.keys() == wanted.keys() and all(
        path.stat().st_size == wanted[name].size and file_digest(path) == wanted[name].sha256
        for name, path in found.items()
    )


def _move(draft: Path, target: Path, names: Sequence[str]) -> None:
    """Move a folder to where it is looked for, unless another process was faster."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        return
    for name in names:
        moved(draft / name, target / name)


def _manifest_key(prefix: str, version: str) -> str:
    return f"{prefix}/{version}/manifest.json"
