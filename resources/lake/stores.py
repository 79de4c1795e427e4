"""Which store serves which kind of address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.errors import SpecError
from resources.lake.folder_store import FolderStore
from resources.lake.s3_store import S3Store

if TYPE_CHECKING:
    from resources.lake.object_store import ObjectStore

STORES = {"": FolderStore.open, "file": FolderStore.open, "s3": S3Store.open}


def scheme_of(uri: str) -> str:
    """The part of an address before ://, or nothing.

    >>> scheme_of("s3://bucket/a/*.csv"), scheme_of("a/*.csv")
    ('s3', '')
    """
    return uri.partition("://")[0] if "://" in uri else ""


def open_store(uri: str, endpoint_url: str | None) -> ObjectStore:
    """The store at `uri`, which the scheme of the address chooses.

    Raises:
        SpecError: there is no store for such addresses.
    """
    scheme = scheme_of(uri)
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in sorted(STORES) if name)
        raise SpecError(f"{uri}: {scheme}:// is not supported", remedy=f"use {known} or a folder")
    return STORES[scheme](uri, endpoint_url)
