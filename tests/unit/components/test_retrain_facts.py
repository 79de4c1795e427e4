"""The facts of a champion: what its version says, and what reports say of it."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.components.retrain_facts import Champion, facts, window_facts
from resources.lake.lake import Lake
from tests.retraining import NOON, report
from tests.support import spec

if TYPE_CHECKING:
    from pathlib import Path

CHAMPION = Champion(version=3, trained_at=NOON, source_version="d1", code_version="c1", test_metric=0.9)
MODEL = spec(retrain={"on_performance_loss": 0.1})
TODAY = date(2026, 11, 18)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


def windows(lake: Lake, model: Any = MODEL) -> list[tuple[int, bool | None, float | None]]:
    found = window_facts(model, model.retrain, CHAMPION, lake)
    return [((TODAY - one.day).days, one.has_drifted, one.performance_loss) for one in found]


def put(lake: Lake, days: int, score: float | None, **changed: Any) -> None:
    report(lake, "weather", TODAY - timedelta(days=days), score, **{"version": 3} | changed)


def test_windows_are_those_of_the_champion_the_last_day_last(lake: Lake) -> None:
    put(lake, 1, 0.31)
    put(lake, 2, 0.3)
    put(lake, 3, None)
    put(lake, 4, 0.9, version=2)
    assert windows(lake) == [(3, None, None), (2, False, None), (1, True, None)]


def test_a_threshold_that_has_changed_since_a_report_counts(lake: Lake) -> None:
    put(lake, 1, 0.5, threshold=0.3)
    assert windows(lake, spec(retrain={}, monitor={"drift_threshold": 0.8})) == [(1, False, None)]
    assert windows(lake, spec(retrain={}, monitor={"drift_threshold": 0.4})) == [(1, True, None)]


def test_only_the_newest_reports_are_read(lake: Lake) -> None:
    for days in range(1, 40):
        put(lake, days, 0.9)
    assert [days for days, *_ in windows(lake)] == list(range(10, 0, -1))


@pytest.mark.parametrize(
    ("live", "labelled", "loss"),
    [(0.7, 1000, 0.2), (0.95, 1000, -0.05), (0.7, 10, None), (math.nan, 1000, None), (-math.inf, 1000, None)],
)
def test_a_loss_is_that_of_enough_labelled_rows(lake: Lake, live: float, labelled: int, loss: float | None) -> None:
    put(lake, 1, 0.1, metrics={"accuracy": live}, labelled=labelled)
    [(_, _, found)] = windows(lake)
    assert found == (pytest.approx(loss) if loss is not None else None)


def test_of_a_metric_that_is_better_when_smaller_a_greater_one_is_a_loss(lake: Lake) -> None:
    model = spec(gate={"metric": "log_loss", "at_most": 2}, retrain={"on_performance_loss": 0.1})
    put(lake, 1, 0.1, metrics={"log_loss": 1.4})
    [(_, _, loss)] = windows(lake, model)
    assert loss == pytest.approx(0.5)


def test_reports_that_no_cause_asks_for_are_not_read(lake: Lake) -> None:
    put(lake, 1, 0.9)
    assert windows(lake, spec(retrain={"on_drift": False})) == []


@pytest.mark.parametrize(
    ("before", "source", "trained_on", "data"),
    [("d1", "d2", "d1", "d2"), ("d1", None, "d1", "d1"), (None, "d2", "d2", "d2"), (None, None, "unknown", "unknown")],
)
def test_what_is_not_known_counts_as_unchanged(
    before: str | None, source: str | None, trained_on: str, data: str
) -> None:
    champion = CHAMPION.model_copy(update={"source_version": before, "code_version": None})
    found = facts(champion, (), source, "c2", None)
    assert (found.trained_on, found.data) == (trained_on, data)
    assert (found.trained_by, found.code) == ("c2", "c2")
