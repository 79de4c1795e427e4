"""Which store serves which kind of address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.errors import SpecError
from resources.lake.folder_store import FolderStore
from resources.lake.s3_store import S3Store

if TYPE_CHECKING:
    from pathlib import Path

    from resources.lake.object_store import ObjectStore

STORES = {"": FolderStore.open, "file": FolderStore.open, "s3": S3Store.open}


def scheme_of(uri: str) -> str:
    """The part of an address before ://, or nothing.

    >>> scheme_of("s3://bucket/a/*.csv"), scheme_of("a/*.csv")
    ('s3', '')
    """
    return uri.partition("://")[0] if "://" in uri else ""


def split_glob(uri: str) -> tuple[str, str]:
    """The part of an address before its first wildcard (or its last name) and the rest.

    >>> split_glob("s3://bucket/flights/*.parquet"), split_glob("/a.csv"), split_glob("*.csv")
    (('s3://bucket/flights', '*.parquet'), ('/', 'a.csv'), ('', '*.csv'))
    """
    scheme, separator, path = uri.rpartition("://")
    fixed, parts = [], path.split("/")
    while len(parts) > 1 and not any(c in parts[0] for c in "*?["):
        fixed.append(parts.pop(0))
    root = "/".join(fixed) or "/" * path.startswith("/")
    return f"{scheme}{separator}{root}", "/".join(parts)


def open_store(uri: str, endpoint_url: str | None, cache: Path | None = None) -> ObjectStore:
    """The store at `uri`, which the scheme of the address chooses; in `cache` it may keep what saves it work.

    Raises:
        SpecError: there is no store for such addresses.
    """
    scheme = scheme_of(uri)
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in sorted(STORES) if name)
        raise SpecError(f"{uri}: {scheme}:// is not supported", remedy=f"use {known} or a folder")
    return STORES[scheme](uri, endpoint_url, cache)
