"""The ledger of retrains: entries and claims are created once, whoever asks, however often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from mlops_assets.ml.errors import DataError, LakeError, SpecError
from resources.lake.lake import Lake
from resources.lake.retrain_ledger import PATIENCE, RecordedRetrain, RetrainLedger, retrain_tags
from tests.retraining import NOON, entry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> RetrainLedger:
    return RetrainLedger(Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache")))


def all_of(ledger: RetrainLedger, model: str = "weather") -> list[RecordedRetrain]:
    return ledger.retrains(ledger.places(model).get(model, []))


def run(run_id: str, key: str | None = "drift/2026-11-17", root: str | None = None) -> dg.DagsterRun:
    tags = {"mlops/retrain": key} if key else {}
    return dg.DagsterRun("weather", run_id, tags=tags, root_run_id=root, parent_run_id=root)


KEYS = ["drift/2026-11-17", "new data/0123456789abcdef", "age/2026-10-18T12:00:00+00:00", "drift/2026-11-17#2"]


def test_entries_come_back_as_they_were_written_the_oldest_first(ledger: RetrainLedger) -> None:
    written = [entry(key=key, decided_at=NOON - timedelta(days=day)) for day, key in enumerate(KEYS)]
    assert all(map(ledger.write, written))
    ledger.write(entry("weather_b"))
    assert [one.entry for one in all_of(ledger)] == written[::-1]
    assert {model: len(places) for model, places in ledger.places().items()} == {"weather": 4, "weather_b": 1}


def test_an_entry_is_written_once(ledger: RetrainLedger) -> None:
    assert ledger.write(entry())
    assert not ledger.write(entry())
    assert len(all_of(ledger)) == 1


def test_a_run_takes_its_entry_and_its_re_execution_has_it(ledger: RetrainLedger) -> None:
    ledger.write(entry())
    ledger.begin(run("a"), "weather", "data")
    ledger.begin(run("a"), "weather", "other data")
    ledger.begin(run("b", root="a"), "weather", "data")
    [found] = all_of(ledger)
    assert found.begun is not None
    assert (found.begun.run_id, found.begun.source_version) == ("a", "data")


def test_a_second_run_for_an_entry_ends_before_it_does_anything(ledger: RetrainLedger) -> None:
    ledger.write(entry())
    ledger.begin(run("a"), "weather", "data")
    with pytest.raises(SpecError, match=r"^The retrain drift/2026-11-17 of weather is run a already; look there"):
        ledger.begin(run("b"), "weather", "data")


def test_other_runs_take_nothing(ledger: RetrainLedger) -> None:
    ledger.begin(run("a", key=None), "weather", "data")
    assert ledger.places() == {}


def test_who_asks_again_does_so_once_in_each_while(ledger: RetrainLedger) -> None:
    ledger.write(entry())
    asked = list[bool]()
    for minutes in (1, 4, 6, 7, 9, 11, 12, 61, 62):
        [found] = all_of(ledger)
        asked.append(ledger.ask_again(found, NOON + timedelta(minutes=minutes)))
    assert asked == [False, False, True, False, False, True, False, True, False]


def test_of_two_who_ask_again_at_once_one_does(ledger: RetrainLedger) -> None:
    ledger.write(entry())
    [found] = all_of(ledger)
    assert [ledger.ask_again(found, NOON + PATIENCE) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("place", ["drift/2026-11-17.json", "drift/2026-11-17.run"])
def test_a_damaged_object_is_named(ledger: RetrainLedger, place: str) -> None:
    ledger.write(entry(key="drift/2026-11-16"))
    ledger.lake.store.create(f"retrains/weather/{place}", b"{}")
    with pytest.raises(
        DataError, match=rf"retrains/weather/{place} in .* is damaged, or of a newer release: .* or move it away"
    ):
        all_of(ledger)


def test_a_lock_is_held_by_one_and_is_no_entry(ledger: RetrainLedger) -> None:
    with ledger.lock("weather"), ledger.lock("weather_b"), ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: ledger.lock("weather").__enter__())
        with pytest.raises(LakeError, match="was held by others"):
            second.result()
        assert all_of(ledger) == []


def test_what_never_changes_is_read_once(ledger: RetrainLedger) -> None:
    ledger.write(entry())
    ledger.begin(run("a"), "weather", "data")
    known = RetrainLedger(ledger.lake, {})
    before = all_of(known)
    places = ledger.places("weather")["weather"]
    for place in places:
        ledger.lake.store.replace(place, b"{")
    assert all_of(known) == before


def test_the_tags_of_a_run_say_why_it_is() -> None:
    made = dg.DagsterRun("weather", "a", tags=entry().tags | {"user": "ann"})
    assert retrain_tags(made) == {
        "mlops/retrain": "drift/2026-11-17",
        "mlops/retrain_reason": "drift",
        "mlops/retrain_window": "2026-11-17",
        "mlops/retrain_because": "2 of the last 3 windows have drifted",
    }
    assert retrain_tags(run("b", key=None)) == {}
