"""The report of a window, and its score."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.monitoring.drift_report import DriftReport, drift_report, model_drift_score
from mlops_assets.ml.monitoring.log_window import open_window
from tests.log_tables import log_table, weather_reference
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

DAYS = date(2026, 11, 11), date(2026, 11, 17)


def report_of(folder: Path, rows: pd.DataFrame, min_rows: int = 500, labels: int = 0, **changed: Any) -> DriftReport:
    """The report of a day on which these rows were asked; it has been a file."""
    reference = weather_reference(folder)
    with open_window([log_table(folder / "day", rows, labels, **changed)]) as window:
        answerer = window.answerer()
        assert answerer is not None
        drift_report(window, answerer, reference, DAYS, min_rows).write(folder)
    return DriftReport.read(folder)


def test_traffic_as_in_training_has_the_score_0(tmp_path: Path) -> None:
    found = report_of(tmp_path, weather(1_000, seed=1))
    assert (found.status, found.score, found.drifted) == ("measured", 0, ())
    assert {column.column: column.drifted for column in found.predictions} == {"label": False, "score": False}


def test_a_column_that_moved_counts_by_its_importance_and_moves_the_answers(tmp_path: Path) -> None:
    moved = weather(1_000, seed=1)
    moved["pressure"] += 8
    found = report_of(tmp_path, moved)
    assert found.score == pytest.approx(0.75)
    assert found.drifted == ("pressure",)
    assert all(column.drifted for column in found.predictions)


def test_a_column_without_importance_does_not_count_when_it_moves(tmp_path: Path) -> None:
    moved = weather(1_000, seed=1)
    moved["place"] = "Basel"
    found = report_of(tmp_path, moved)
    assert (found.score, found.drifted) == (0, ("place",))


def test_fewer_rows_than_wanted_have_no_figure(tmp_path: Path) -> None:
    found = report_of(tmp_path, weather(499, seed=1), labels=400)
    assert (found.status, found.score, found.columns, found.performance) == ("not enough data", None, (), None)
    assert found.reason == "version 1 has answered 499 rows, and monitor.min_rows is 500"
    assert found.rows == 499


def test_where_no_column_is_in_the_log_there_is_no_score(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("input:place", "input:pressure", "input:humidity"))
    found = report_of(tmp_path, weather(600), **nothing)
    assert (found.status, found.reason) == ("not enough data", "no column can be compared")
    assert set(found.skipped) == {"place", "pressure", "humidity"}


def test_labels_give_the_performance_beside_that_of_the_test_part(tmp_path: Path) -> None:
    found = report_of(tmp_path, weather(1_000, seed=1), labels=100)
    assert found.performance is not None
    assert found.performance.unlabelled_share == 0.9
    assert found.performance.metrics["accuracy"] > 0.5
    assert found.test_metrics == {"accuracy": 0.8}


FLAGS = st.dictionaries(st.sampled_from("abcdef"), st.booleans(), min_size=1)


@given(FLAGS, st.dictionaries(st.sampled_from("abcdefg"), st.floats(-1, 1)))
def test_the_score_is_a_share_and_drift_of_one_more_column_never_lessens_it(
    drifted: dict[str, bool], importance: dict[str, float]
) -> None:
    score = model_drift_score(drifted, importance)
    assert 0 <= score <= 1 + 1e-9
    assert model_drift_score(dict.fromkeys(drifted, True), importance) == pytest.approx(1)
    assert model_drift_score(dict.fromkeys(drifted, False), importance) == 0
    for name in drifted:
        assert model_drift_score(drifted | {name: True}, importance) >= score
