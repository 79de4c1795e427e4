"""Objects by key: the few operations the lake stands on, with the same promises in every store."""

from __future__ import annotations

import fnmatch
import hashlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path


class StoredObject(NamedTuple):
    """What takes room in a store: any object, with its size in bytes and when it was written (UTC)."""

    key: str
    size: int
    modified: datetime


class SourceObject(Value):
    """One object as it was when it was listed; `etag` changes when its content does.

    Stored again with the same content it stays as it was, but for buckets that encrypt by KMS.
    """

    key: str
    etag: str
    size: int


class Page(NamedTuple):
    """A part of a listing, and the key after which the next part begins."""

    objects: list[SourceObject]
    last: str


class ObjectStore(Protocol):
    """Objects below a root. Keys are relative to it and use forward slashes.

    What a network may do to a request, a lost answer, a conflict, a body that breaks off, stays inside: an operation
    has happened exactly as it says, or raises. Patterns are those of `matches`.

    `mlops_assets.testing.check_object_store` checks an implementation, and an entry in `resources.lake.stores.STORES`
    makes it known. The smallest one keeps a dictionary:

        class MemoryStore:
            def __init__(self): self.objects = {}
            def list(self, pattern): return [self._listed(key) for key in sorted(self.objects) if matches(key, pattern)]
            def sizes(self, pattern): return {item.key: item.size for item in self.list(pattern)}
            def local_folder(self, prefix): return None
            def local_path(self, item): return None
            def create(self, key, content): return self.objects.setdefault(key, content) is content
            ...
    """

    def list(self, pattern: str) -> list[SourceObject]:
        """Objects whose key matches the pattern, sorted by key."""
        ...

    def pages(self, pattern: str, after: str = "") -> Iterator[Page]:
        """What `list` gives, from the key after `after` on, in pages of at most 1,000 objects; some may have none."""
        ...

    def sizes(self, pattern: str) -> dict[str, int]:
        """Key and size in bytes of the objects whose key matches the pattern, sorted by key; cheaper than `list`."""
        ...

    def stored(self, folder: str = "") -> Iterator[StoredObject]:
        """Everything below a folder, hidden objects and what killed writers left too, in no order; "" is all.

        The listing comes in pages, so that it may be of any length.
        """
        ...

    def local_folder(self, prefix: str) -> Path | None:
        """Where objects below `prefix` lie as files of this machine, be there any or not; None in a remote store."""
        ...

    def local_path(self, item: SourceObject) -> Path | None:
        """The file that a listed object is, None in a remote store; DataError when it has changed or gone since."""
        ...

    def download(self, item: SourceObject, target: Path) -> None:
        """Copy the listed state of an object into `target`; DataError when it has changed or gone since."""
        ...

    def upload(self, source: Path, key: str) -> None:
        """Store a file durably; it is visible as a whole or not at all. It may lie where the key's own file would."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Store `content` unless the key exists; whether it was stored. Of several writers one wins.

        Where the answer to the first attempt is lost, the content tells whose it is: put an id into it.
        """
        ...

    def read(self, key: str) -> bytes | None:
        """The content, or None when there is no such key."""
        ...

    def replace(self, key: str, content: bytes) -> None:
        """Store `content` in place of whatever is there."""
        ...

    def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        ...

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove these keys, those that are there; when it raises, some of them may be gone."""
        ...


def digest_of(items: Iterable[SourceObject], before: str = "") -> str:
    """A version of objects in their order, of 16 hexadecimal digits; empty for none.

    A listing may be digested in parts, each with the digest `before` it.

    >>> a, b = (SourceObject(key=key, etag="e", size=1) for key in "ab")
    >>> digest_of([b], digest_of([a])) == digest_of([a, b]), digest_of([])
    (True, '')
    """
    for item in items:
        text = f"{before} {item.etag} {item.size} {item.key}"
        before = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
    return before


def matches(key: str, pattern: str) -> bool:
    """Whether a key matches a glob, which means the same in a folder and in a bucket.

    `*`, `?` and `[ab]` stay within one part of the key, `**` stands for any number of parts, and none of them for a
    part that begins with a dot. A key that ends with a slash is a folder, and no object.

    >>> matches("a/x.csv", "a/*.csv"), matches("a/b/x.csv", "a/*.csv"), matches("a/.x.csv", "a/*.csv")
    (True, False, False)
    >>> matches("a/x.csv", "a/**/*.csv"), matches("a/b/c/x.csv", "a/**/*.csv")
    (True, True)
    """
    return not key.endswith("/") and _match(key.split("/"), pattern.split("/"))


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns or not parts:
        return not patterns and not parts
    first, *rest = patterns
    if first != "**":
        return _fits(parts[0], first) and _match(parts[1:], rest)
    if not rest:
        return all(_fits(part, "*") for part in parts)
    return _match(parts, rest) or (_fits(parts[0], "*") and _match(parts[1:], patterns))


def _fits(part: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(part, pattern) and (pattern.startswith(".") or not part.startswith("."))


def changed(item: SourceObject) -> DataError:
    """What to raise when a listed object is not there any more as it was listed."""
    what = f"{item.key} was changed or deleted after it was listed"
    return DataError(what, remedy="materialize raw_data again to list what is there now")
