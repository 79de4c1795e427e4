"""The lake: source objects to read, and immutable snapshots that are published by their manifest, written last."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value
from resources.lake.lake_lock import HeldLock, lake_lock
from resources.lake.object_store import ObjectStore, SourceObject
from resources.lake.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


# Locks of this process by lake, name and thread: Dagster makes several resources of one lake
_HELD: dict[tuple[str, str, int], HeldLock] = {}


class PublishedFile(Value):
    """A file of a snapshot."""

    name: str
    size: int
    sha256: str


class Manifest(Value):
    """What a snapshot consists of; a folder without one does not exist for any reader."""

    version: str
    folder: str
    files: tuple[PublishedFile, ...]


class Lake(dg.ConfigurableResource[Any]):
    """Reads source objects and keeps snapshots, in a folder or in S3.

    A snapshot is `<prefix>/<version>`: its files lie in a folder of their own per attempt, and the manifest, which one
    writer can create once, names the attempt that counts. A writer that is killed leaves nothing that is visible.
    """

    uri: str
    cache: str
    endpoint_url: str | None = None

    _stores: dict[str, ObjectStore] = PrivateAttr(default_factory=dict)

    @cached_property
    def store(self) -> ObjectStore:
        """The objects of the lake itself."""
        return open_store(self.uri, self.endpoint_url)

    # ---- sources ----
    def list_sources(self, uri: str) -> list[SourceObject]:
        """The objects at `uri`, a glob that is relative to the lake or absolute."""
        store, pattern = self._source(uri)
        return store.list(pattern)

    @contextmanager
    def sources(self, uri: str, items: Sequence[SourceObject]) -> Generator[list[Path]]:
        """Local files with exactly the listed state of the objects, in their order, while the block runs."""
        store, _ = self._source(uri)
        with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
            yield [
                store.local_path(item) or _downloaded(store, item, Path(folder, f"{i:06d}-{Path(item.key).name}"))
                for i, item in enumerate(items)
            ]
        for item in items:
            store.local_path(item)  # raises when the file was changed while it was read

    def _source(self, uri: str) -> tuple[ObjectStore, str]:
        if "://" not in uri and not uri.startswith("/"):
            return self.store, uri
        root, pattern = split_glob(uri)
        if root not in self._stores:
            self._stores[root] = open_store(root, self.endpoint_url)
        return self._stores[root], pattern

    # ---- snapshots ----
    def find(self, prefix: str, version: str) -> Manifest | None:
        """The manifest of a snapshot whose files are all there unharmed, or None."""
        key = _manifest_key(prefix, version)
        content = self.store.read(key)
        if content is None:
            return None
        manifest = Manifest.model_validate_json(content)
        listed = {item.key: item.size for item in self.store.list(f"{manifest.folder}/*")}
        complete = all(listed.get(f"{manifest.folder}/{file.name}") == file.size for file in manifest.files)
        local = self.store.local_folder(manifest.folder)
        if complete and local is not None:
            complete = all(sha256(local / file.name) == file.sha256 for file in manifest.files)
        if complete:
            return manifest
        # A damaged snapshot is moved out of the way, so that the stage can publish it anew.
        self.store.replace(f"{prefix}/{version}/damaged-{uuid.uuid4().hex}.json", content)
        self.store.delete(key)
        return None

    def fetch(self, prefix: str, version: str) -> Path:
        """A local folder with the files of a snapshot.

        Raises:
            DataError: there is no such snapshot, or its files are not those of its manifest.
        """
        manifest = self.find(prefix, version)
        if manifest is None:
            what = f"There is no complete snapshot {prefix}/{version} in {self.uri}"
            raise DataError(what, remedy="materialize its asset again")
        return self.local_folder(manifest)

    def local_folder(self, manifest: Manifest) -> Path:
        """A local folder with the files of a manifest that was found; digests are checked when they are downloaded."""
        local = self.store.local_folder(manifest.folder)
        if local is not None:
            return local
        target = self._scratch() / manifest.folder
        if not target.exists():
            self._download_into(manifest, target)
        return target

    def _download_into(self, manifest: Manifest, target: Path) -> None:
        draft = Path(tempfile.mkdtemp(dir=self._scratch()))
        listed = {item.key: item for item in self.store.list(f"{manifest.folder}/*")}
        for file in manifest.files:
            self.store.download(listed[f"{manifest.folder}/{file.name}"], draft / file.name)
            if sha256(draft / file.name) != file.sha256:
                raise DataError(f"{manifest.folder}/{file.name} does not have the digest its manifest gives; refused")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(target)
        except OSError:
            shutil.rmtree(draft)  # another process was faster

    @contextmanager
    def publishing(self, prefix: str, version: str) -> Generator[Path]:
        """An empty local folder to write into; when the block ends well, its files become snapshot `version`.

        Where another writer has published the same version meanwhile, theirs counts and this one is dropped.
        """
        attempt = f"{prefix}/{version}/{uuid.uuid4().hex}"
        local = self.store.local_folder(attempt)
        draft = local or Path(tempfile.mkdtemp(dir=self._scratch()))
        draft.mkdir(parents=True, exist_ok=True)
        published = False
        try:
            yield draft
            files = sorted(path for path in draft.iterdir() if path.is_file())
            manifest = Manifest(
                version=version,
                folder=attempt,
                files=tuple(PublishedFile(name=f.name, size=f.stat().st_size, sha256=sha256(f)) for f in files),
            )
            for file in files:
                self.store.upload(file, f"{attempt}/{file.name}")
            content = manifest.model_dump_json(indent=1).encode()
            published = self.store.create(_manifest_key(prefix, version), content)
        finally:
            if local is None or not published:
                shutil.rmtree(draft, ignore_errors=True)

    # ---- one at a time ----
    @contextmanager
    def lock(self, name: str, wait_s: float = 600) -> Generator[HeldLock]:
        """Run the block while no other process or machine does so under `name`; for short critical sections.

        A thread that holds the lock already goes on with it. A holder that was killed blocks others on its machine no
        longer, and on other machines for 30 s.

        Raises:
            LakeError: others held it for `wait_s`; or, after the block, this process was asleep for so long that
                another has taken the lock over. `HeldLock.check` tells that before an act that cannot be undone.
        """
        mine = (self.uri, name, threading.get_ident())
        if mine in _HELD:
            yield _HELD[mine]
            return
        with lake_lock(self.store, name, wait_s=wait_s) as held:
            _HELD[mine] = held
            try:
                yield held
            finally:
                del _HELD[mine]

    # ---- small documents ----
    def append(self, prefix: str, entry: Mapping[str, object]) -> int:
        """Add an entry to an append-only ledger and return its number; numbers have no gaps and are never reused."""
        number = len(self.store.list(f"{prefix}/*.json")) + 1
        while not self.store.create(
            f"{prefix}/{number:08d}.json", json.dumps({"number": number, "time": time.time(), **entry}).encode()
        ):
            number += 1
        return number

    def entries(self, prefix: str) -> list[dict[str, object]]:
        """All entries of a ledger, oldest first."""
        contents = [self.store.read(item.key) for item in self.store.list(f"{prefix}/*.json")]
        return [json.loads(content) for content in contents if content is not None]

    def _scratch(self) -> Path:
        cache = Path(self.cache)
        cache.mkdir(parents=True, exist_ok=True)
        return cache


def _downloaded(store: ObjectStore, item: SourceObject, target: Path) -> Path:
    store.download(item, target)
    return target


def split_glob(uri: str) -> tuple[str, str]:
    """The part of a uri before its first wildcard (or its last name) and the rest.

    >>> split_glob("s3://bucket/flights/*.parquet")
    ('s3://bucket/flights', '*.parquet')
    """
    fixed, parts = [], uri.split("/")
    while len(parts) > 1 and not any(c in parts[0] for c in "*?["):
        fixed.append(parts.pop(0))
    return "/".join(fixed), "/".join(parts)


def sha256(path: Path) -> str:
    """Digest of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest_key(prefix: str, version: str) -> str:
    return f"{prefix}/{version}/manifest.json"
