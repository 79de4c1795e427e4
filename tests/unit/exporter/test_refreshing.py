"""Sources that fail, hang or are away: the others go on, and what is old says so."""

from __future__ import annotations

import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from mlops_assets.exporter import refreshing
from mlops_assets.exporter.figures import Figure
from mlops_assets.exporter.refreshing import FORGOTTEN_S, IN_TIME_S, Figures, Source
from mlops_assets.exporter.sources import Reading
from tests.support import wait_until

SCORE = Reading((Figure("model_drift_score", ("iris",), 0.25),))


def away() -> Reading:
    raise OSError("the lake is away")


def values(*sources: Source) -> dict[str, float]:
    """What a scrape gets, by metric and source or model."""
    registry = CollectorRegistry()
    registry.register(Figures(sources))
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {
        f"{sample.name}/{sample.labels.get('source') or sample.labels['model']}": sample.value for sample in samples
    }


def test_a_source_that_is_away_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    sound, broken = Source("drift", lambda: SCORE), Source("registry", away)
    for source in (sound, broken):
        source.refresh()
    found = values(sound, broken)
    assert (found["model_exporter_up/drift"], found["model_exporter_up/registry"]) == (1, 0)
    assert found["model_drift_score/iris"] == 0.25
    assert "registry cannot be read: the lake is away" in caplog.text


def test_a_source_that_hangs_holds_no_scrape_up() -> None:
    hangs, stop = threading.Event(), threading.Event()

    def hang() -> Reading:
        hangs.set()
        stop.wait()
        return SCORE

    hung, sound = Source("registry", hang), Source("drift", lambda: SCORE)
    threads = [threading.Thread(target=source.run, args=(stop,)) for source in (hung, sound)]
    for thread in threads:
        thread.start()
    try:
        assert hangs.wait(10)
        wait_until(lambda: values(hung, sound).get("model_drift_score/iris") == 0.25)
        assert values(hung, sound)["model_exporter_up/registry"] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_source_is_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "EVERY_S", 0.01)
    stop, readings = threading.Event(), list[float]()

    def read() -> Reading:
        readings.append(time.time())
        return away() if len(readings) == 2 else SCORE

    thread = threading.Thread(target=Source("drift", read).run, args=(stop,))
    thread.start()
    wait_until(lambda: len(readings) >= 4)
    stop.set()
    thread.join()


def test_figures_that_are_old_say_so_and_are_then_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    source, now = Source("drift", lambda: SCORE), time.time()
    source.refresh()
    for age, up, known in ((0.0, 1, True), (IN_TIME_S + 1, 0, True), (FORGOTTEN_S + 1, 0, False)):
        monkeypatch.setattr(refreshing.time, "time", lambda age=age: now + age)
        found = values(source)
        assert found["model_exporter_up/drift"] == up
        assert ("model_drift_score/iris" in found) == known
        assert found["model_exporter_last_success_timestamp_seconds/drift"] == pytest.approx(now, abs=5)


def test_models_that_could_not_be_read_are_counted() -> None:
    source = Source("ledgers", lambda: Reading(SCORE.figures, unread=2))
    source.refresh()
    found = values(source)
    assert (found["model_exporter_unread_models/ledgers"], found["model_exporter_up/ledgers"]) == (2, 0)
