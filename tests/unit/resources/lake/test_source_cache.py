"""Downloaded sources: fetched once, believed only with their digests, and bounded."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import DataError
from resources.lake.folder_store import FolderStore
from resources.lake.source_cache import SourceCache

if TYPE_CHECKING:
    from resources.lake.object_store import SourceObject


class Remote(FolderStore):
    """A folder that gives nothing but downloads, and counts them."""

    downloads = 0

    def download(self, item: SourceObject, target: Path) -> None:
        self.downloads += 1
        super().download(item, target)


@pytest.fixture
def store(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "remote")
    for name in ("a.csv", "b.csv", "c.csv"):
        made.replace(name, name.encode() * 100)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> SourceCache:
    return SourceCache(tmp_path / "cache")


def test_an_object_is_fetched_once(store: Remote, cache: SourceCache, tmp_path: Path) -> None:
    [item, *_] = store.list("*.csv")
    for number in range(3):
        cache.link(store, "s3://bucket", item, tmp_path / str(number))
        assert (tmp_path / str(number)).read_bytes() == b"a.csv" * 100
    assert store.downloads == 1
    cache.link(store, "s3://another", item, tmp_path / "other")
    assert store.downloads == 2


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"x" * 501])
def test_what_was_changed_in_the_cache_is_fetched_again(
    store: Remote, cache: SourceCache, tmp_path: Path, content: bytes
) -> None:
    [item, *_] = store.list("*.csv")
    cache.link(store, "s3://bucket", item, tmp_path / "one")
    [kept] = (path for path in cache.folder.rglob("*") if path.is_file())
    (tmp_path / "one").unlink()
    kept.write_bytes(content)
    cache.link(store, "s3://bucket", item, tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"a.csv" * 100
    assert store.downloads == 2


def test_an_object_that_has_changed_is_refused_unless_it_is_kept(
    store: Remote, cache: SourceCache, tmp_path: Path
) -> None:
    [kept, gone, _] = store.list("*.csv")
    cache.link(store, "s3://bucket", kept, tmp_path / "one")
    for name in ("a.csv", "b.csv"):
        store.replace(name, b"new")
    cache.link(store, "s3://bucket", kept, tmp_path / "two")
    with pytest.raises(DataError, match="was changed or deleted"):
        cache.link(store, "s3://bucket", gone, tmp_path / "three")
    assert not [path for path in cache.folder.iterdir() if path.name.startswith(".")]


def test_what_was_not_used_for_longest_goes_first_and_who_uses_it_keeps_it(
    store: Remote, cache: SourceCache, tmp_path: Path
) -> None:
    for age, item in enumerate(store.list("*.csv")):
        before = set(cache.folder.iterdir()) if cache.folder.exists() else set[Path]()
        cache.link(store, "s3://bucket", item, tmp_path / item.key)
        [place] = set(cache.folder.iterdir()) - before
        os.utime(place, (age, age))
    SourceCache(cache.folder, limit_bytes=1_100).trim()
    assert len(list(cache.folder.iterdir())) == 2
    assert (tmp_path / "a.csv").read_bytes() == b"a.csv" * 100
    for item in store.list("*.csv")[1:]:
        cache.link(store, "s3://bucket", item, tmp_path / item.key)
    assert store.downloads == 3


def test_several_may_fetch_and_trim_at_once(store: Remote, cache: SourceCache, tmp_path: Path) -> None:
    items = store.list("*.csv")
    small = SourceCache(cache.folder, limit_bytes=600)

    def work(number: int) -> bytes:
        item, target = items[number % 3], tmp_path / f"{number}.out"
        small.link(store, "s3://bucket", item, target)
        small.trim()
        return target.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(work, range(60)))
    assert contents == [items[number % 3].key.encode() * 100 for number in range(60)]
