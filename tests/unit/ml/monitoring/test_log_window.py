"""Which rows of the log a report is about, and what is counted of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
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


def test_a_digest_is_never_taken_for_a_category(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(30, seed=1)
    hashed = {"input:place": None, "digest:place": ["0af3"] * 29 + [None]}
    plain = log_table(tmp_path / "a", rows, version=["2"] * 30)
    with open_window([plain, log_table(tmp_path / "b", rows, **hashed)]) as window:
        assert window.profiles("1", reference)[2] == {
            "place": "the log has digests of it (deploy.inference_log.hash)",
        }
        assert window.profiles("2", reference)[2] == {}


def test_what_another_version_had_as_text_is_compared_as_the_number_that_it_is_now(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(300, seed=1)
    before = log_table(tmp_path / "a", rows, version=["0"] * 300, **{"input:pressure": ["high"] * 300})
    with open_window([before, log_table(tmp_path / "b", rows)]) as window:
        inputs, _, skipped = window.profiles("1", reference)
        sample = window.sample(ANSWERER, ["pressure"], reference, 300)
    with open_window([tmp_path / "b" / "log.parquet"]) as window:
        alone = window.profiles("1", reference)[0]
    assert skipped == {}
    assert inputs == alone
    assert sample["pressure"].dtype == "float32"


def test_a_column_whose_name_differs_in_case_from_another_versions_is_found(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(300, seed=1)
    renamed = {"input:pressure": None, "input:Pressure": pa.array(rows["pressure"], pa.float32())}
    before = log_table(tmp_path / "a", rows, version=["0"] * 300, **renamed)
    with open_window([before, log_table(tmp_path / "b", rows)]) as window:
        assert set(window.profiles("1", reference)[0]) == {"place", "pressure", "humidity"}


def test_a_column_that_only_versions_before_have_logged_is_not_one_without_values(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(30, seed=1)
    before = log_table(tmp_path / "a", rows, version=["0"] * 30)
    with open_window([before, log_table(tmp_path / "b", rows, **{"input:pressure": None})]) as window:
        assert window.profiles("1", reference, ["pressure"])[2] == {
            "pressure": "it is not in the log (deploy.inference_log.leave_out)"
        }
        # A caller may have sent none
        assert window.profiles("1", reference)[0]["pressure"].rows == 0


def test_labels_come_with_their_answers(tmp_path: Path) -> None:
    rows = weather(300, seed=1)
    with open_window([log_table(tmp_path / "a", rows, labels=40)]) as window:
        labelled, truths = window.truths("1", weather_reference(tmp_path))
    assert labelled == 40
    assert truths["label"].to_pylist() == [str(int(rain)) for rain in rows["rain"][:40]]
    assert len(truths["answer"][0].as_py()) == 2


def test_answers_are_those_of_the_versions_own_task(tmp_path: Path) -> None:
    rows = weather(300, seed=1)
    numbers = {"output:probabilities": None, "output:prediction": pa.array(rows["pressure"], pa.float32())}
    before = log_table(tmp_path / "a", rows, labels=40, version=["0"] * 300)
    reference = weather_reference(tmp_path).model_copy(update={"labels": None})
    with open_window([before, log_table(tmp_path / "b", rows, labels=40, **numbers)]) as window:
        truths = window.truths("1", reference)[1]
    assert truths["answer"].to_pylist() == pytest.approx(rows["pressure"][:40].tolist(), rel=1e-6)


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
