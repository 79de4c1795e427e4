"""The conformance test of an object store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import DataError
from resources.lake.object_store import matches

if TYPE_CHECKING:
    from resources.lake.object_store import ObjectStore, SourceObject

WRITERS, RACES, MANY = 8, 10, 1_001
PATTERNS = [
    *("glob/*.csv", "glob/**/*.csv", "**/x?.csv", "glob/**", "glob/b/**/*.csv", "glob/*/*.csv", "glob/[xy]1.*"),
    *("glob/.h.csv", "glob/.*/*.csv", "glob/b/[[]1].csv", "glob/b/[1].csv", "glob/x1.csv", "glob/**/**/x3.csv", "glob"),
]
SPECIAL_KEYS = [f"special/{name}" for name in ("a b", "a+b", "a%20b", "a=b&c", "o'Brien", "Genève", "A", "a")]


def check_object_store(store: ObjectStore) -> None:
    """Check an empty store for what the lake relies on.

    Raises:
        AssertionError: with what does not hold.
    """
    assert store.read("a/x.txt") is None, "a key that is not there reads as None"
    assert store.create("a/x.txt", b"one"), "create stores a new key"
    assert not store.create("a/x.txt", b"two"), "create leaves a key that is there"
    assert not store.create("a/x.txt", b"one"), "equal content that was there before is not what create has stored"
    assert store.read("a/x.txt") == b"one", "what was created first stays"
    store.replace("a/x.txt", b"three")
    assert store.read("a/x.txt") == b"three", "replace stores in place of what is there"
    store.replace("a/b/y.txt", b"deep")
    store.replace("a/z.csv", b"csv")
    keys = [item.key for item in store.list("a/*.txt")]
    assert keys == ["a/x.txt"], f"a wildcard stays within one part of the key, but a/*.txt listed {keys}"
    assert [item.key for item in store.list("a/*")] == ["a/x.txt", "a/z.csv"], "a listing is sorted by key"
    assert [item.key for item in store.list("*/x.txt")] == ["a/x.txt"], "a wildcard may stand in any part of a pattern"
    assert [item.key for item in store.list("A/*")] == [], "keys are told apart by upper and lower case"
    pages = [item for page in store.pages("a/*") for item in page.objects]
    assert pages == store.list("a/*"), "pages gives what list does"
    later = [item.key for page in store.pages("a/*", pages[0].key) for item in page.objects]
    assert later == [item.key for item in pages[1:]], "pages goes on after the key that it is given"
    assert store.sizes("a/*") == {"a/x.txt": 5, "a/z.csv": 3}, "sizes gives the bytes of what a listing has"
    _check_patterns(store)
    store.replace("a/z.csv.bak", b"")
    assert store.read("a/z.csv.bak") == b"", "an empty object is empty, and not missing"
    store.delete("a/z.csv")
    store.delete("a/z.csv")
    assert store.read("a/z.csv") is None, "a deleted key is gone, and deleting it again is no error"
    assert store.read("a/z.csv.bak") is not None, "deleting a key leaves those that begin with it"
    for key in SPECIAL_KEYS:
        store.replace(key, key.encode())
    listed = [item.key for item in store.list("special/*")]
    assert listed == sorted(SPECIAL_KEYS), f"keys come back as they were stored, but {listed} were listed"
    assert all(store.read(key) == key.encode() for key in SPECIAL_KEYS), "each key has its own content"
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda number: store.create(f"many/{number:04d}", b""), range(MANY)))
    assert len(store.list("many/*")) == MANY, f"a listing has all of {MANY} objects"
    _check_files(store)
    _check_one_writer_wins(store)
    _check_deleting_many(store)


def _check_patterns(store: ObjectStore) -> None:
    keys = [
        f"glob/{name}" for name in ("x1.csv", "b/x2.csv", "b/c/x3.csv", ".h.csv", ".h/x4.csv", "b/[1].csv", "y1.txt")
    ]
    for key in keys:
        store.replace(key, b"")
    for pattern in PATTERNS:
        found, wanted = list(store.sizes(pattern)), sorted(key for key in keys if matches(key, pattern))
        assert found == wanted, f"{pattern} means {wanted}, but {found} were listed"


def _check_deleting_many(store: ObjectStore) -> None:
    everything = {item.key: item for item in store.stored()}
    missing = {*store.sizes("**/*"), "glob/.h.csv"} - everything.keys()
    assert not missing, f"stored gives every object, hidden ones too, but {missing} were left out"
    ages = [abs((datetime.now(UTC) - item.modified).total_seconds()) for item in everything.values()]
    assert max(ages) < 3600, "stored gives the time of writing, UTC"
    assert everything["a/x.txt"].size == len(b"three"), "stored gives the size in bytes"
    below = [item.key for item in store.stored("a/b")]
    assert below == ["a/b/y.txt"], f"stored gives what is below a folder alone, but {below} were listed"
    store.delete_many([])
    store.delete_many([*store.sizes("many/*"), "many/never-there"])
    assert not list(store.stored("many")), f"delete_many removes all of {MANY} keys, and a missing one is no error"
    assert store.create("many/again", b""), "where all was deleted, there is room for new keys"
    left = {item.key for item in store.stored()}
    assert {*everything} - left == {key for key in everything if key.startswith("many/")}, "it leaves all others"


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
        source.write_bytes(b"CONTENT")
        store.upload(source, "files/f.bin")
        [new] = store.list("files/*")
        assert new.etag != item.etag, "other content of the same size has another etag"
        store.upload(source, "files/f.bin")
        assert store.list("files/*") == [new], "an object that is stored again with its content has the etag it had"
        _check_refused(store, item, target, "changed after it was listed")
        store.delete("files/f.bin")
        _check_refused(store, new, target, "deleted after it was listed")


def _check_refused(store: ObjectStore, item: SourceObject, target: Path, why: str) -> None:
    try:
        store.download(item, target)
    except DataError:
        return
    except Exception as error:
        raise AssertionError(f"the download of an object that was {why} raises {error!r}, wanted DataError") from error
    raise AssertionError(f"an object that was {why} must not be downloaded")


def _check_one_writer_wins(store: ObjectStore) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        for race in range(RACES):
            start, key = Barrier(WRITERS), f"races/{race}"

            def write(number: int, start: Barrier = start, key: str = key) -> bool:
                start.wait()
                return store.create(key, str(number).encode())

            created = list(pool.map(write, range(WRITERS)))
            assert created.count(True) == 1, (
                f"{created.count(True)} of {WRITERS} writers created the same key, wanted 1"
            )
            assert store.read(key) == str(created.index(True)).encode(), "the winner's content is stored"
