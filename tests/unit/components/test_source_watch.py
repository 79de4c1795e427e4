"""Listing of sources in parts: whatever the parts, the version is the one that a run would write down."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import boto3
import pytest

from mlops_assets.components.source_watch import Allowance, SourceState, look
from resources.lake import folder_store, s3_store
from resources.lake.lake import Lake
from resources.lake.object_store import digest_of

if TYPE_CHECKING:
    from pathlib import Path

URI = "source/**/*.csv"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


def put(lake: Lake, *names: str, content: bytes = b"1") -> None:
    for name in names:
        lake.store.replace(f"source/{name}.csv", content)


def settled(lake: Lake, state: SourceState | None = None, pages: int = 40) -> tuple[SourceState, int]:
    """The state once it has a version that is the last one found, and how many looks that took."""
    for looks in range(1, 1000):
        state = look(lake, URI, state, Allowance(pages))
        if state.version and state.version == state.found and not state.after:
            return state, looks
    raise AssertionError("it never settles")


def test_a_version_is_known_after_two_listings_that_agree(lake: Lake) -> None:
    put(lake, "a", "b")
    first = look(lake, URI, None, Allowance())
    assert first.version is None
    second = look(lake, URI, first, Allowance())
    assert second.version == digest_of(lake.list_sources(URI))


@pytest.mark.parametrize("pages", [1, 2, 3, 40])
def test_a_listing_in_parts_gives_the_same(lake: Lake, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    monkeypatch.setattr(folder_store, "PAGE", 2)
    put(lake, *"abcde", "deep/f", "deep/g")
    state, looks = settled(lake, pages=pages)
    assert state.version == digest_of(lake.list_sources(URI))
    assert looks == {1: 10, 2: 6, 3: 4, 40: 2}[pages]


@pytest.mark.parametrize(("name", "content"), [("a", b"2"), ("c", b"1")])
def test_another_content_and_another_object_are_another_version(lake: Lake, name: str, content: bytes) -> None:
    put(lake, "a", "b")
    before, _ = settled(lake)
    put(lake, name, content=content)
    meanwhile = look(lake, URI, before, Allowance())
    assert meanwhile.version == before.version
    after, _ = settled(lake, meanwhile)
    assert after.version != before.version


def test_objects_that_are_still_being_written_give_no_version(lake: Lake) -> None:
    put(lake, "a")
    state, _ = settled(lake)
    for number in range(5):
        put(lake, f"new-{number}")
        state = look(lake, URI, state, Allowance())
        assert state.version == digest_of([item for item in lake.list_sources(URI) if "new" not in item.key])


def test_a_source_without_objects_has_no_version(lake: Lake) -> None:
    state = None
    for _ in range(3):
        state = look(lake, URI, state, Allowance())
    assert state is not None
    assert state.version is None


def test_another_address_begins_anew(lake: Lake) -> None:
    put(lake, "a")
    state, _ = settled(lake)
    assert look(lake, "other/*.csv", state, Allowance()).version is None


def test_what_is_spent_lists_nothing(lake: Lake) -> None:
    put(lake, "a")
    for allowance in (Allowance(pages=0), Allowance(seconds=0)):
        assert look(lake, URI, None, allowance) == SourceState(uri=URI)


def test_a_bucket_is_listed_in_bounded_parts(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "PAGE", 3)
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="watched", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for number in range(10):
        client.put_object(Bucket="watched", Key=f"source/{number:06d}.csv", Body=b"1")
    client.put_object(Bucket="watched", Key="source/zz.txt", Body=b"1")
    lake = Lake(uri="s3://watched", cache=str(tmp_path), endpoint_url=s3_endpoint)
    state, looks = settled(lake, pages=2)
    assert state.version == digest_of(lake.list_sources(URI))
    assert looks == 6


@pytest.mark.faults
def test_a_source_of_100_000_objects_is_seen_in_few_looks(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "lake/source"
    for part in range(100):
        (folder / str(part)).mkdir(parents=True)
        for number in range(1_000):
            (folder / str(part) / f"{number}.csv").write_bytes(b"1")
    state, looks = None, 0
    while state is None or state.version is None:
        state = look(lake, URI, state, Allowance(seconds=math.inf))  # how long it takes says `bench ticks`
        looks += 1
    assert looks < 60
