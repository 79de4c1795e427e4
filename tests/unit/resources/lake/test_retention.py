"""What of a lake nobody needs: found by our own names alone, and deleted so that no half of a snapshot is believed."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resources.lake.retention import (
    clean_cache,
    delete,
    handles_of,
    size_of,
    survey,
    unneeded,
    unneeded_in_cache,
    versions_in_handles,
)
from resources.lake.source_cache import SourceCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resources.lake.lake import Lake
    from resources.lake.object_store import ObjectStore
    from resources.lake.retention import Unneeded

OLD, NEW, OTHER = "0123456789abcdef", "fedcba9876543210", "0000111122223333"
LATER = timedelta(hours=1)


def publish(lake: Lake, version: str, content: bytes = b"content", stage: str = "features") -> None:
    with lake.publishing(f"m/{stage}", version) as folder:
        (folder / "data.bin").write_bytes(content)
        (folder / "more.bin").write_bytes(content)


def found(lake: Lake, needed: set[str], before: datetime | None = None) -> list[Unneeded]:
    before = before or datetime.now(UTC) + LATER
    return [
        one for name, model in survey(lake.store).items() for one in unneeded(lake.store, name, model, needed, before)
    ]


@pytest.fixture
def two(lake: Lake) -> Lake:
    """A lake with an old and a new snapshot of a model, of which the new one is the latest."""
    publish(lake, OLD)
    publish(lake, NEW, b"new content")
    lake.store.replace("m/features/handles/latest.json", f'{{"version": "{NEW}"}}'.encode())
    return lake


def keys(ones: Sequence[Unneeded]) -> set[str]:
    return {item.key for one in ones for item in one.objects}


def test_a_snapshot_that_no_document_names_goes_and_all_else_stays(two: Lake) -> None:
    foreign = [
        *("m/features/handles/a.txt", f"m/features/{OLD}/mine.txt", f"m/features/{OLD}/notes/data.bin"),
        *("m/ledger/00000001.json", "m/lock/00000001.json", "m/mlflow_runs/1", f"sources/x/{OLD}/manifest.json"),
        *(f"m/{OLD}/manifest.json", f"m/features/{OLD}x/manifest.json", f"deep/m/features/{OLD}/manifest.json"),
    ]
    for key in foreign:
        two.store.replace(key, b"of somebody else")
    [one] = found(two, {NEW})
    assert (one.what, one.reason) == (f"m/features/{OLD}", "nothing refers to it")
    manifest = two.find("m/features", OLD)
    assert manifest is not None
    assert keys([one]) == {
        f"m/features/{OLD}/manifest.json",
        *(f"{manifest.folder}/{file.name}" for file in manifest.files),
    }
    before = {item.key for item in two.store.stored()}
    assert delete(two.store, [one], lambda: True)
    assert before - {item.key for item in two.store.stored()} == keys([one])
    assert two.find("m/features", OLD) is None
    assert (two.fetch("m/features", NEW) / "data.bin").read_bytes() == b"new content"
    assert found(two, {NEW}) == []
    publish(two, OLD, b"again")
    assert (two.fetch("m/features", OLD) / "data.bin").read_bytes() == b"again"


def test_what_is_younger_than_the_limit_stays(two: Lake) -> None:
    two.store.replace(f"checkpoints/m/trained_model/{OTHER}/checkpoint-1", b"weights")
    assert found(two, {NEW}, datetime.now(UTC) - LATER) == []
    assert [one.what for one in found(two, {NEW})] == [f"m/features/{OLD}", f"m/trained_model/{OTHER}"]


def test_a_model_without_a_handle_is_not_taken_for_one_of_ours(lake: Lake) -> None:
    publish(lake, OLD)
    assert survey(lake.store) == {}


def test_the_latest_handle_and_those_of_recent_runs_name_what_is_needed(two: Lake) -> None:
    two.store.replace("m/features/handles/some-run.json", f'{{"prepared": {{"version": "{OTHER}"}}}}'.encode())
    model = survey(two.store)["m"]
    now = datetime.now(UTC)
    assert versions_in_handles(two.store, model, now - LATER) == {NEW, OTHER}
    assert versions_in_handles(two.store, model, now + LATER) == {NEW}
    assert model.stages == ["features"]


def test_of_a_version_that_stays_what_it_does_not_consist_of_goes(two: Lake) -> None:
    left = [
        f"m/features/{NEW}/{'a' * 32}/data.bin",
        f"m/features/{NEW}/damaged-{'b' * 32}.json",
        f"m/features/{NEW}/checkpoints/checkpoint-0001",
        f"checkpoints/m/features/{NEW}/checkpoint-0002",
        f"checkpoints/m/features/{NEW}/.{'d' * 32}.draft",
        f"m/raw_data/inspected/{OLD}.json",
        f"m/features/.{'c' * 32}.draft",
    ]
    for key in left:
        two.store.replace(key, b"left over")
    time.sleep(1.1)  # S3 tells whole seconds
    two.store.replace(f"m/raw_data/inspected/{NEW}.json", b"{}")
    ones = found(two, {NEW, OLD})
    assert keys(ones) == {*left}
    assert delete(two.store, ones, lambda: True)
    assert (two.fetch("m/features", NEW) / "data.bin").read_bytes() == b"new content"


def test_where_no_manifest_tells_what_counts_nothing_of_a_needed_version_goes(two: Lake) -> None:
    two.store.replace(f"m/features/{NEW}/{'a' * 32}/data.bin", b"another attempt")
    two.store.replace(f"m/features/{NEW}/manifest.json", b"{cut")
    assert found(two, {NEW, OLD}) == []
    two.store.delete(f"m/features/{NEW}/manifest.json")
    assert found(two, {NEW, OLD}) == []


class KilledError(Exception):
    """Stands for kill -9."""


def test_a_deletion_that_was_killed_is_finished_by_the_next_one(two: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    really, calls = type(two.store).delete_many, list[int]()

    def killed(store: ObjectStore, keys: Sequence[str]) -> None:
        calls.append(len(keys))
        really(store, keys[: len(keys) // 2] if len(calls) == 2 else keys)  # pyright: ignore[reportArgumentType]
        if len(calls) == 2:
            raise KilledError

    monkeypatch.setattr(type(two.store), "delete_many", killed)
    with pytest.raises(KilledError):
        delete(two.store, found(two, {NEW}), lambda: True)
    monkeypatch.undo()
    assert two.find("m/features", OLD) is None  # half of it is there, and nobody believes it
    [rest] = found(two, {NEW})
    assert (rest.reason, len(rest.objects)) == ("it was never finished, or half deleted", 1)
    assert delete(two.store, [rest], lambda: True)
    assert found(two, {NEW}) == []


def test_where_a_run_has_begun_meanwhile_the_snapshot_is_there_again(two: Lake) -> None:
    asked = list[object]()

    def is_free() -> bool:
        asked.append(two.find("m/features", OLD))
        return False

    assert not delete(two.store, found(two, {NEW}), is_free)
    assert asked == [None]  # when it is asked, nobody can find the snapshot any more
    assert (two.fetch("m/features", OLD) / "data.bin").read_bytes() == b"content"


def test_the_cache_loses_what_the_lake_has_lost_and_what_was_not_used(two: Lake) -> None:
    old, new = two.fetch("m/features", OLD), two.fetch("m/features", NEW)
    cache = Path(two.cache)
    scratch, unused = cache / "tmp12345678", cache / "sources" / "unused"
    for folder in (scratch, unused, cache / "of_somebody" / "a" / "b" / "c"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"12345")
    os.utime(unused, (1, 1))
    delete(two.store, found(two, {NEW}), lambda: True)
    before, models = datetime.now(UTC) + LATER, survey(two.store)
    is_remote = two.store.local_folder("m") is None
    folders = unneeded_in_cache(two, models, before)
    assert folders == [*([old] if is_remote else []), scratch]
    assert [size_of(folder) for folder in folders] == [*([14] if is_remote else []), 5]
    assert unneeded_in_cache(two, models, datetime.now(UTC) - LATER) == []
    assert SourceCache(cache / "sources").unused(before.timestamp() - 7200) == {unused: 5}
    clean_cache(two, folders, datetime.now(UTC) - LATER)
    assert not any(folder.exists() for folder in (*folders, unused))
    assert (new / "data.bin").read_bytes() == b"new content"
    assert (cache / "of_somebody" / "a" / "b" / "c" / "file").exists()


def test_what_spaces_have_of_a_model_is_found_with_it_and_nothing_of_it_goes(two: Lake) -> None:
    own = {
        "spaces/ann/m/features/handles/latest.json": f'{{"version": "{OLD}"}}',
        "spaces/ann/m/features/handles/run.json": f'{{"version": "{OTHER}"}}',
        "spaces/ann/m/ledger/00000001.json": "{}",
        "spaces/ann/m/ledger/00000002.json": "{}",
        "spaces/ann/m/lock/00000001.json": "{}",
        "spaces/ann/m/mlflow_runs/1": "1",
        "spaces/ben/other/features/handles/latest.json": "{}",
    }
    for key, content in own.items():
        two.store.replace(key, content.encode())
    two.store.replace("m/ledger/00000007.json", b"{}")
    models = survey(two.store)
    assert sorted(models) == ["m", "other"]
    assert models["m"].ledgers == {"": "m/ledger/00000007.json", "ann": "spaces/ann/m/ledger/00000002.json"}
    assert models["m"].stages == ["features"]
    later = datetime.now(UTC) + LATER
    assert versions_in_handles(two.store, models["m"], later) == {OLD, NEW}
    assert {item.key for item in handles_of(two.store, "m")} == {
        "m/features/handles/latest.json",
        "spaces/ann/m/features/handles/latest.json",
        "spaces/ann/m/features/handles/run.json",
    }
    assert not keys(found(two, set())) & {*own}


def test_a_draft_that_a_killed_writer_has_left_in_a_space_goes(two: Lake) -> None:
    draft = f"spaces/ann/m/features/handles/.{'0' * 32}.draft"
    two.store.replace(draft, b"half")
    assert keys(found(two, {OLD, NEW})) == {draft}
