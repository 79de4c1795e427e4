"""What of the lake nobody needs any more: found by names of our own making alone, and deleted manifest first.

A version of a stage is needed where its digest stands in a document that is kept, such as a handle or the tags of a
registered version. What else lies in a lake, sources above all, is not looked at. Without its manifest a snapshot does
not exist for any reader, so half of one is never believed; what a deletion that was killed has left is an attempt that
no manifest names, which the next one takes.
"""

from __future__ import annotations

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from resources.lake.lake_checkpoints import CHECKPOINTS
from resources.lake.snapshots import Manifest
from resources.lake.source_cache import SourceCache
from resources.lake.space import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence, Set
    from datetime import datetime

    from resources.lake.lake import Lake
    from resources.lake.object_store import ObjectStore, StoredObject

READS_AT_ONCE = 16
VERSION = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
OF_SPACE = rf"(?:{FOLDER}/(?P<space>[^/]+)/)?"
HANDLE = re.compile(rf"{OF_SPACE}(?P<model>[^/]+)/(?P<stage>[^/]+)/handles/(?P<run>[^/]+)\.json")
LEDGER = re.compile(rf"{OF_SPACE}(?P<model>[^/]+)/ledger/[^/]+\.json")
INSPECTED = re.compile(r"(?P<model>[^/]+)/raw_data/inspected/[0-9a-f]{16}\.json")
DRAFT = re.compile(rf"(?:{CHECKPOINTS}/|{FOLDER}/[^/]+/)?(?P<model>[^/]+)/(.+/)?\.[0-9a-f]{{32}}\.draft")
PART = re.compile(
    r"(?P<model>[^/]+)/(?P<stage>[^/]+)/(?P<version>[0-9a-f]{16})/"
    # Checkpoints lay here once
    r"(?P<part>manifest\.json|damaged-[0-9a-f]{32}\.json|checkpoints/checkpoint-[^/]+|(?P<attempt>[0-9a-f]{32})/[^/]+)"
)
CHECKPOINT = re.compile(
    rf"{CHECKPOINTS}/(?P<model>[^/]+)/(?P<stage>[^/]+)/(?P<version>[0-9a-f]{{16}})/(?P<name>checkpoint-[^/]+)"
)
ATTEMPT_FOLDER = re.compile(r"[^/]+/[^/]+/(?P<version>[0-9a-f]{16})/[0-9a-f]{32}")


@dataclass(frozen=True)
class Unneeded:
    """Objects that nobody needs, which go together."""

    what: str
    reason: str
    objects: tuple[StoredObject, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.objects)


@dataclass
class ModelObjects:
    """What the lake holds of a model in all spaces, but for locks and claims, which stay for ever as ledgers do."""

    ledgers: dict[str, str] = field(default_factory=dict[str, str])
    """The key of the last entry, by space."""
    handles: list[StoredObject] = field(default_factory=list["StoredObject"])
    inspected: list[StoredObject] = field(default_factory=list["StoredObject"])
    drafts: list[StoredObject] = field(default_factory=list["StoredObject"])
    versions: dict[str, dict[str, StoredObject]] = field(default_factory=dict[str, dict[str, "StoredObject"]])
    """By `<stage>/<version>`, and in it by the part of the key that follows."""

    @property
    def stages(self) -> list[str]:
        """Stages that have made something."""
        return sorted({match["stage"] for item in self.handles if (match := HANDLE.fullmatch(item.key))})


def survey(store: ObjectStore) -> dict[str, ModelObjects]:
    """What the lake holds of each model that has made a handle."""
    found = dict[str, ModelObjects]()
    for item in store.stored():
        if match := PART.fullmatch(item.key):
            model = found.setdefault(match["model"], ModelObjects())
            model.versions.setdefault(f"{match['stage']}/{match['version']}", {})[match["part"]] = item
        elif match := CHECKPOINT.fullmatch(item.key):
            model, part = found.setdefault(match["model"], ModelObjects()), f"{CHECKPOINTS}/{match['name']}"
            model.versions.setdefault(f"{match['stage']}/{match['version']}", {})[part] = item
        elif match := HANDLE.fullmatch(item.key):
            found.setdefault(match["model"], ModelObjects()).handles.append(item)
        elif match := LEDGER.fullmatch(item.key):
            ledgers, space = found.setdefault(match["model"], ModelObjects()).ledgers, match["space"] or ""
            ledgers[space] = max(item.key, ledgers.get(space, ""))
        elif match := INSPECTED.fullmatch(item.key):
            found.setdefault(match["model"], ModelObjects()).inspected.append(item)
        elif match := DRAFT.fullmatch(item.key):
            found.setdefault(match["model"], ModelObjects()).drafts.append(item)
    return {name: model for name, model in sorted(found.items()) if model.handles}


def handles_of(store: ObjectStore, name: str) -> list[StoredObject]:
    """The handles of a model as they are now, of all its stages and in all spaces."""
    stored = (*store.stored(name), *store.stored(FOLDER))
    return [item for item in stored if (match := HANDLE.fullmatch(item.key)) and match["model"] == name]


def versions_in(texts: Iterable[str]) -> set[str]:
    """Every version that stands in these documents, in whatever field.

    >>> versions_in(["iris/features/0123456789abcdef", "0123456789abcdef0"])
    {'0123456789abcdef'}
    """
    return {version for text in texts for version in VERSION.findall(text)}


def versions_in_handles(store: ObjectStore, model: ModelObjects, since: datetime) -> set[str]:
    """The versions that the latest handle of each stage names in any space, and those of runs that wrote one since."""
    keys = [item.key for item in model.handles if item.key.endswith("/latest.json") or item.modified >= since]
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        contents = list(pool.map(store.read, keys))
    return versions_in(content.decode(errors="replace") for content in contents if content is not None)


def unneeded(
    store: ObjectStore, name: str, model: ModelObjects, needed: Set[str], before: datetime
) -> Iterator[Unneeded]:
    """What is older than `before` and belongs to no version of `needed`, or to no snapshot that counts."""
    for place, parts in sorted(model.versions.items()):
        what, version = f"{name}/{place}", place.partition("/")[2]
        if version not in needed and max(item.modified for item in parts.values()) < before:
            reason = "nothing refers to it" if "manifest.json" in parts else "it was never finished, or half deleted"
            yield Unneeded(what, reason, tuple(parts.values()))
        else:
            yield from _left_over(store, what, parts, before)
    newest = max(model.inspected, key=lambda item: item.modified, default=None)
    superseded = tuple(item for item in model.inspected if item is not newest and item.modified < before)
    if superseded:
        yield Unneeded(f"{name}/raw_data/inspected", "the contract has changed since", superseded)
    drafts = tuple(item for item in model.drafts if item.modified < before)
    if drafts:
        yield Unneeded(f"{name}: drafts", "their writers were killed", drafts)


def _left_over(store: ObjectStore, what: str, parts: dict[str, StoredObject], before: datetime) -> Iterator[Unneeded]:
    """What a version that stays does not consist of."""
    counts = _attempt_that_counts(store, parts)
    if counts is None:
        return
    groups = dict[tuple[str, str], list["StoredObject"]]()
    for part, item in parts.items():
        folder = part.partition("/")[0]
        if part.startswith("damaged-"):
            groups.setdefault((part, "it was damaged, and made again"), []).append(item)
        elif folder == CHECKPOINTS:
            groups.setdefault((folder, "the training is finished"), []).append(item)
        elif folder != counts and part != "manifest.json":
            groups.setdefault((folder, "its writer was killed, or another was faster"), []).append(item)
    for (folder, reason), items in groups.items():
        if max(item.modified for item in items) < before:
            yield Unneeded(f"{what}/{folder}", reason, tuple(items))


def _attempt_that_counts(store: ObjectStore, parts: dict[str, StoredObject]) -> str | None:
    """The attempt that the manifest of a version names; None where that is not known."""
    content = store.read(parts["manifest.json"].key) if "manifest.json" in parts else None
    try:
        return Manifest.model_validate_json(content).folder.rpartition("/")[2] if content else None
    except ValidationError:
        return None  # the stage sets it aside when it makes the version again


def delete(store: ObjectStore, items: Sequence[Unneeded], is_free: Callable[[], bool]) -> bool:
    """Delete these, manifests first; whether it was done.

    `is_free` says whether nobody who may have found a manifest is at work. It is asked when no manifest is there any
    more: a run that begins later finds none. Where one has begun before, the manifests come back.
    """
    keys = [item.key for one in items for item in one.objects]
    manifests = [key for key in keys if key.endswith("/manifest.json")]
    contents = {key: content for key in manifests if (content := store.read(key)) is not None}
    store.delete_many(manifests)
    if not is_free():
        for key, content in contents.items():
            store.create(key, content)
        return False
    store.delete_many([key for key in keys if key not in manifests])
    return True


def unneeded_in_cache(lake: Lake, models: dict[str, ModelObjects], before: datetime) -> list[Path]:
    """Folders of this machine's cache that are older than `before`: of snapshots that have gone, and of killed runs."""
    cache, found = Path(lake.cache), list[Path]()
    for folder in cache.glob("*/*/*/*"):
        match = ATTEMPT_FOLDER.fullmatch(folder.relative_to(cache).as_posix())
        name, stage, version, _ = folder.relative_to(cache).parts
        model = models.get(name, ModelObjects())
        if match and "manifest.json" not in model.versions.get(f"{stage}/{version}", {}):
            found.append(folder)
    found += [folder for folder in cache.glob("tmp????????") if folder.is_dir()]
    return [folder for folder in sorted(found) if _newest(folder) < before.timestamp()]


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def clean_cache(lake: Lake, folders: Sequence[Path], before: datetime) -> None:
    """Remove these folders of the cache, and source objects that were not used since `before`."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    SourceCache(Path(lake.cache, "sources")).remove_unused(before.timestamp())


def _newest(folder: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return time.time()  # somebody is at work there
