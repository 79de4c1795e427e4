"""The conformance test of an object store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from resources.lake.object_store import ObjectStore

WRITERS = 8


def check_object_store(store: ObjectStore) -> None:
    """Check an empty store for what the lake relies on.

    Raises:
        AssertionError: with what does not hold.
    """
    assert store.read("a/x.txt") is None, "a key that is not there reads as None"
    assert store.create("a/x.txt", b"one"), "create stores a new key"
    assert not store.create("a/x.txt", b"two"), "create leaves a key that is there"
    assert store.read("a/x.txt") == b"one", "what was created first stays"
    store.replace("a/x.txt", b"three")
    assert store.read("a/x.txt") == b"three", "replace stores in place of what is there"
    store.replace("a/b/y.txt", b"deep")
    store.replace("a/z.csv", b"csv")
    keys = [item.key for item in store.list("a/*.txt")]
    assert keys == ["a/x.txt"], f"a wildcard stays within one part of the key, but a/*.txt listed {keys}"
    assert [item.key for item in store.list("a/*")] == ["a/x.txt", "a/z.csv"], "a listing is sorted by key"
    store.delete("a/z.csv")
    store.delete("a/z.csv")
    assert store.read("a/z.csv") is None, "a deleted key is gone, and deleting it again is no error"
    _check_files(store)
    _check_one_writer_wins(store)


def _check_files(store: ObjectStore) -> None:
    with TemporaryDirectory() as scratch:
        source, target = Path(scratch, "source"), Path(scratch, "target")
        source.write_bytes(b"content")
        store.upload(source, "files/f.bin")
        [item] = store.list("files/*")
        assert item.size == len(b"content"), "a listing gives the size in bytes"
        store.download(item, target)
        assert target.read_bytes() == b"content", "what was uploaded is downloaded"
        local = store.local_path(item)
        assert local is None or local.read_bytes() == b"content", "a local path leads to the object"
        assert (local is None) == (store.local_folder("files") is None), "a store is local in all or in nothing"
        store.replace("files/f.bin", b"changed after it was listed")
        try:
            store.download(item, target)
        except DataError:
            return
        raise AssertionError("an object that was changed after it was listed must not be downloaded")


def _check_one_writer_wins(store: ObjectStore) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        created = list(pool.map(lambda number: store.create("race", str(number).encode()), range(WRITERS)))
    assert created.count(True) == 1, f"{created.count(True)} of {WRITERS} writers created the same key, wanted 1"
    assert store.read("race") == str(created.index(True)).encode(), "the winner's content is stored"
