"""Which rows of the log a report is about, and what is counted of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.monitoring.column_profile import CategoryProfile, NumberProfile
from mlops_assets.ml.monitoring.log_window import Answerer, open_window
from tests.log_tables import LABEL_DELAY, log_table, weather_reference
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

ANSWERER = Answerer(version="1", rows=300, other_rows=0)


def test_the_rows_are_those_of_the_version_that_answered_last_and_not_of_candidates(tmp_path: Path) -> None:
    rows = weather(300, seed=1)
    versions = ["1"] * 100 + ["2"] * 150 + ["3"] * 50
    first = log_table(tmp_path / "a", rows, version=versions, role=["champion"] * 250 + ["candidate"] * 50)
    with open_window([first, log_table(tmp_path / "b", rows[:20], version=["2"] * 20)]) as window:
        assert window.answerer() == Answerer(version="2", rows=170, other_rows=100)


def test_a_window_without_champions_has_no_version(tmp_path: Path) -> None:
    table = log_table(tmp_path / "a", weather(3), role=["candidate"] * 3)
    with open_window([table]) as window:
        assert window.answerer() is None


def test_profiles_have_every_row_of_all_days(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(300, seed=1)
    tables = [log_table(tmp_path / "a", rows[:100]), log_table(tmp_path / "b", rows[100:])]
    with open_window(tables) as window:
        inputs, answers, skipped = window.profiles("1", reference)
    assert skipped == {}
    place, pressure, humidity = inputs["place"], inputs["pressure"], inputs["humidity"]
    assert isinstance(place, CategoryProfile)
    counts = {name: count for name, count in zip(place.names, place.counts, strict=True) if count}
    assert counts == rows["place"].value_counts().to_dict()
    assert isinstance(pressure, NumberProfile)
    assert (pressure.rows, pressure.std) == (300, pytest.approx(rows["pressure"].std(ddof=0), rel=1e-4))
    assert humidity.missing == rows["humidity"].isna().sum()
    assert answers["label"].rows == answers["score"].rows == 300


def test_columns_that_the_log_does_not_have_as_they_are_are_skipped_with_the_reason(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(30, seed=1)
    hashed = {"input:pressure": ["0af3"] * 30, "input:humidity": None}
    with open_window([log_table(tmp_path / "a", rows, **hashed)]) as window:
        inputs, _, skipped = window.profiles("1", reference)
    assert list(inputs) == ["place"]
    assert skipped == {
        "pressure": "the log has digests of it (deploy.inference_log.hash)",
        "humidity": "it is not in the log (deploy.inference_log.leave_out)",
    }


def test_labels_come_with_their_answers(tmp_path: Path) -> None:
    rows = weather(300, seed=1)
    with open_window([log_table(tmp_path / "a", rows, labels=40)]) as window:
        labelled, truths = window.truths("1")
    assert labelled == 40
    assert truths["label"].to_pylist() == [str(int(rain)) for rain in rows["rain"][:40]]
    assert len(truths["answer"][0].as_py()) == 2


def test_the_time_from_answer_to_label_is_that_of_the_labels_that_have_come(tmp_path: Path) -> None:
    with open_window([log_table(tmp_path / "a", weather(300), labels=40)]) as window:
        assert window.label_delay_s("1") == pytest.approx(LABEL_DELAY.total_seconds(), abs=1)
        assert window.label_delay_s("2") is None
    with open_window([log_table(tmp_path / "b", weather(300))]) as window:
        assert window.label_delay_s("1") is None


def test_a_sample_is_as_large_as_is_wanted_and_spread_over_the_window(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(300, seed=1)
    rows["pressure"] = range(300)
    with open_window([log_table(tmp_path / "a", rows)]) as window:
        whole = window.sample(ANSWERER, ["place", "pressure"], reference, 300)
        part = window.sample(ANSWERER, ["place", "pressure"], reference, 100)
    assert whole["pressure"].tolist() == list(range(300))
    assert list(whole) == ["place", "pressure", "output:label", "output:score"]
    assert 60 < len(part) < 140
    assert part["pressure"].median() == pytest.approx(150, abs=40)


def test_a_table_that_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="The inference log cannot be read"), open_window([tmp_path / "log.parquet"]):
        pass
