"""The lake: source objects to read, and immutable snapshots that are published by their manifest, written last."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from mlops_assets.ml.errors import DataError, SpecError
from resources.lake.lake_lock import HeldLock, lake_lock
from resources.lake.object_store import ObjectStore, Page, SourceObject
from resources.lake.snapshots import Manifest, Snapshots
from resources.lake.source_cache import SourceCache
from resources.lake.space import in_space, name_in, split_name
from resources.lake.stores import open_store, split_glob

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

DOWNLOADS_AT_ONCE = 16

# Locks of this process by lake, name and thread: Dagster makes several resources of one lake
_HELD: dict[tuple[str, str, int], HeldLock] = {}


class Lake(dg.ConfigurableResource[Any]):
    """Reads source objects and keeps snapshots, in a folder or in S3.

    A snapshot is `<prefix>/<version>`: its files lie in a folder of their own per attempt, and the manifest, which one
    writer can create once, names the attempt that counts. A writer that is killed leaves nothing that is visible.

    Snapshots are everybody's. Locks, ledgers and what lies at an `own` key are those of the lake's `space`.
    """

    uri: str
    cache: str
    endpoint_url: str | None = None
    space: str = ""
    owns_space: bool = True

    _stores: dict[str, ObjectStore] = PrivateAttr(default_factory=dict)
    _entries: dict[tuple[str, str, int], dict[str, Any]] = PrivateAttr(default_factory=dict)

    @cached_property
    def store(self) -> ObjectStore:
        """The objects of the lake itself."""
        return open_store(self.uri, self.endpoint_url, Path(self.cache))

    # ---- sources ----
    def list_sources(self, uri: str) -> list[SourceObject]:
        """The objects at `uri`, a glob that is relative to the lake or absolute; `matches` says what it means."""
        store, _, pattern = self._source(uri)
        return store.list(pattern)

    def source_pages(self, uri: str, after: str = "") -> Iterator[Page]:
        """What `list_sources` gives, from the key after `after` on, page by page."""
        store, _, pattern = self._source(uri)
        return store.pages(pattern, after)

    @contextmanager
    def sources(self, uri: str, items: Sequence[SourceObject]) -> Generator[list[Path]]:
        """Local files with exactly the listed state of the objects, in their order, while the block runs.

        Remote objects are fetched several at a time, and kept for the stages and runs that come later.

        Raises:
            DataError: an object has changed or gone since it was listed.
        """
        store, root, _ = self._source(uri)
        cache = SourceCache(Path(self.cache, "sources"))
        with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:

            def local(number: int, item: SourceObject) -> Path:
                path = store.local_path(item)
                # What reads the files may read below their own folders alone, and a link leads out of them
                if path is not None and not path.is_symlink():
                    return path
                target = Path(folder, f"{number:06d}-{Path(item.key).name[-60:]}")
                if path is None:
                    cache.link(store, root, item, target)
                else:
                    shutil.copyfile(path, target)
                return target

            with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
                paths = list(pool.map(local, range(len(items)), items))
            yield paths
        cache.trim()
        for item in items:
            store.local_path(item)  # raises when the file was changed while it was read

    def _source(self, uri: str) -> tuple[ObjectStore, str, str]:
        """Store, address of its root, and pattern of a source."""
        if "://" not in uri and not uri.startswith("/"):
            return self.store, self.uri, uri
        root, pattern = split_glob(uri)
        if root not in self._stores:
            self._stores[root] = open_store(root, self.endpoint_url, Path(self.cache))
        return self._stores[root], root, pattern

    # ---- snapshots ----
    @property
    def snapshots(self) -> Snapshots:
        """The snapshots of the lake."""
        return Snapshots(self.store, self.uri, Path(self.cache))

    def find(self, prefix: str, version: str) -> Manifest | None:
        """The manifest of a snapshot whose files are all there unharmed, or None."""
        return self.snapshots.find(prefix, version)

    def fetch(self, prefix: str, version: str) -> Path:
        """A local folder with the files of a snapshot.

        Raises:
            DataError: there is no such snapshot, or its files are not those of its manifest.
        """
        return self.snapshots.fetch(prefix, version)

    def local_folder(self, manifest: Manifest) -> Path:
        """A local folder with the files of a manifest that was found, unharmed."""
        return self.snapshots.local_folder(manifest)

    def publishing(self, prefix: str, version: str) -> AbstractContextManager[Path]:
        """An empty local folder to write into; when the block ends well, its files become snapshot `version`.

        Where another writer has published the same version meanwhile, theirs counts and this one is dropped.
        """
        return self.snapshots.publishing(prefix, version)

    # ---- the space ----
    def own(self, key: str) -> str:
        """Where the space keeps what is its own."""
        return in_space(self.space, key)

    def name_of(self, model: str) -> str:
        """What a model of the space is called in MLflow and at endpoints, where names of all spaces stand."""
        return name_in(self.space, model)

    def models_of(self, names: Iterable[str]) -> list[str]:
        """The models of the space among such names."""
        return [model for space, model in map(split_name, names) if space == self.space]

    def check_space(self) -> None:
        """Call it before what changes the space: what is latest, registered, champion or served in it.

        Raises:
            SpecError: this environment may only look at it.
        """
        if not self.owns_space:
            what = f"This environment is not production, and may not change what is production's in {self.uri}"
            raise SpecError(what, remedy="unset MLOPS_SPACE, which gives you a space of your own, or name another one")

    # ---- one at a time ----
    @contextmanager
    def lock(self, name: str, wait_s: float = 600) -> Generator[HeldLock]:
        """Run the block while nobody else of the space does so under `name`; for short critical sections.

        A thread that holds the lock already goes on with it. A holder that was killed blocks others on its machine no
        longer, and on other machines for 30 s.

        Raises:
            LakeError: others held it for `wait_s`; or, after the block, this process was asleep for so long that
                another has taken the lock over. `HeldLock.check` tells that before an act that cannot be undone.
            SpecError: this environment may not change the space.
        """
        self.check_space()
        key = self.own(name)
        mine = (self.uri, key, threading.get_ident())
        if mine in _HELD:
            yield _HELD[mine]
            return
        with lake_lock(self.store, key, wait_s=wait_s) as held:
            _HELD[mine] = held
            try:
                yield held
            finally:
                del _HELD[mine]

    # ---- small documents ----
    def append(self, prefix: str, entry: Mapping[str, object]) -> int:
        """Add an entry to an append-only ledger and return its number; numbers have no gaps and are never reused."""
        prefix = self.own(prefix)
        known = [Path(key).stem for key in self.store.sizes(f"{prefix}/*.json")]
        number = max((int(name) for name in known if name.isdecimal()), default=0) + 1
        # By the id a lost answer is told from another writer's entry
        content = {"time": time.time(), **entry, "id": uuid.uuid4().hex}
        while not self.store.create(f"{prefix}/{number:08d}.json", json.dumps({"number": number} | content).encode()):
            number += 1
        return number

    def entries(self, prefix: str) -> list[dict[str, Any]]:
        """All entries of a ledger, oldest first.

        Raises:
            DataError: an entry is damaged.
        """
        listed = [(self.uri, key, size) for key, size in self.store.sizes(f"{self.own(prefix)}/*.json").items()]
        # They are created once, so each is read once
        for entry in listed:
            if entry not in self._entries and (content := self.store.read(entry[1])) is not None:
                self._entries[entry] = self._entry(entry[1], content)
        return [self._entries[entry] for entry in listed if entry in self._entries]

    def _entry(self, key: str, content: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(content)
        except ValueError as error:
            remedy = "restore the object from a copy, or move it away: its move is then not in the ledger"
            raise DataError(f"The ledger entry {key} in {self.uri} is damaged ({error})", remedy=remedy) from error
        if not isinstance(entry, dict):
            raise DataError(f"The ledger entry {key} in {self.uri} is no JSON object", remedy="move the object away")
        return entry

    def _scratch(self) -> Path:
        cache = Path(self.cache)
        cache.mkdir(parents=True, exist_ok=True)
        return cache
