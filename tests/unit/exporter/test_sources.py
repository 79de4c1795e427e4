"""What is read of each model: figures of YAML, ledgers and drift reports. The registry is in test_server.py."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.assets.handles import DriftSummary
from mlops_assets.exporter.figures import MAX_COLUMNS, METRICS, Figure
from mlops_assets.exporter.sources import drift_figures, ledger_figures, of_each, spec_figures
from mlops_assets.ml.errors import DataError, LakeError
from resources.lake.lake import Lake
from resources.tracking.alias_ledger import AliasLedger
from tests.support import spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"), space="ann")


def by_name(figures: Iterable[Figure]) -> dict[str, float]:
    found = {"/".join((figure.name, *figure.labels[1:])): figure.value for figure in figures}
    for figure in figures:
        assert len(figure.labels) == len(METRICS[figure.name].labels)
    return found


def put_report(lake: Lake, day: date, **changed: Any) -> None:
    made: dict[str, Any] = {
        "prefix": "p",
        "version": "v",
        "day": day,
        "computed_at": datetime(2026, 11, 18, tzinfo=UTC),
        "status": "measured",
        "reason": "",
        "model_version": "3",
        "rows": 800,
        "labelled": 200,
        "score": 0.75,
        "threshold": 0.3,
        "drifted": {"pressure": True, "place": False},
        "values": {"pressure": 0.4, "place": 0.02},
        "metrics": {"accuracy": 0.7},
        "label_delay_s": 3600.0,
    }
    summary = DriftSummary(**made | changed)
    lake.store.replace(f"ann--weather/drift_report/{day}/latest.json", summary.model_dump_json().encode())


def test_what_the_yaml_says() -> None:
    model = spec(owners=["team:operations", "ann@example.com"], monitor={"drift_threshold": 0.2, "stale_after": "2d"})
    assert list(spec_figures(model, "ann--weather")) == [
        Figure("model_info", ("ann--weather", "binary_classification", "team:operations"), 1),
        Figure("model_drift_threshold", ("ann--weather",), 0.2),
        Figure("model_gate_threshold", ("ann--weather", "accuracy"), 0.6),
        Figure("model_stale_after_seconds", ("ann--weather",), 172_800),
    ]


def test_a_model_without_owner_or_age_has_neither() -> None:
    found = by_name(list(spec_figures(spec(monitor={"stale_after": None}), "weather")))
    assert found["model_info/binary_classification/nobody"] == 1
    assert "model_stale_after_seconds" not in found


def test_the_newest_report_with_a_score_counts(lake: Lake) -> None:
    put_report(lake, date(2026, 11, 15), score=0.1)
    put_report(lake, date(2026, 11, 16))
    put_report(lake, date(2026, 11, 17), score=None, status="not enough data", values={}, drifted={})
    found = by_name(list(drift_figures("weather", lake)))
    assert found == {
        "model_drift_score": 0.75,
        "model_drift_report_timestamp_seconds": datetime(2026, 11, 18, tzinfo=UTC).timestamp(),
        "model_drift_rows": 800,
        "model_drifted_columns": 1,
        "model_unlabelled_share": 0.75,
        "model_label_delay_seconds": 3600,
        "model_live_metric/accuracy": 0.7,
        "model_column_drift/pressure": 0.4,
        "model_column_drifted/pressure": 1,
        "model_column_drift/place": 0.02,
        "model_column_drifted/place": 0,
    }


def test_without_a_score_there_are_no_figures(lake: Lake) -> None:
    assert list(drift_figures("weather", lake)) == []
    put_report(lake, date(2026, 11, 17), score=None, status="no reference", values={}, drifted={})
    assert list(drift_figures("weather", lake)) == []


def test_of_many_columns_those_that_have_drifted_come_first_and_some_are_left_out(lake: Lake) -> None:
    names = [f"c{number}" for number in range(MAX_COLUMNS + 9)]
    values = {name: float(number) for number, name in enumerate(names)}
    put_report(lake, date(2026, 11, 17), values=values, drifted={name: name == "c0" for name in names})
    found = by_name(list(drift_figures("weather", lake)))
    shown = [name for name in found if name.startswith("model_column_drift/")]
    assert len(shown) == MAX_COLUMNS
    assert {"model_column_drift/c0", f"model_column_drift/{names[-1]}"} <= set(shown)
    assert found["model_drifted_columns"] == 1


def test_moves_and_rollouts_are_counted_as_the_ledgers_have_them(lake: Lake) -> None:
    began = datetime.now(UTC)
    ledger = AliasLedger(lake, "weather")
    ledger.write("challenger", 1, "0" * 64, "registered", "ann", None, {})
    ledger.write("champion", 1, "0" * 64, "the first", "ann", None, {})
    for state in ("prepared", "rolled_back", "prepared", "promoted"):
        lake.append("weather/rollouts", {"version": 1, "state": state})
    found = by_name(list(ledger_figures("weather", lake)))
    since = datetime.fromtimestamp(found.pop("model_champion_since_timestamp_seconds"), UTC)
    assert timedelta(0) <= since - began < timedelta(minutes=1)
    assert found == {
        "model_champion_moves_total": 1,
        "model_rollout_steps_total/promoted": 1,
        "model_rollout_steps_total/rolled_back": 1,
        "model_rollout_steps_total/prepared": 2,
    }


def test_before_the_first_move_counts_are_0(lake: Lake) -> None:
    found = by_name(list(ledger_figures("weather", lake)))
    assert found == {
        "model_champion_moves_total": 0,
        "model_rollout_steps_total/promoted": 0,
        "model_rollout_steps_total/rolled_back": 0,
    }


def test_a_model_that_cannot_be_read_leaves_the_others_their_figures(caplog: pytest.LogCaptureFixture) -> None:
    def read(model: str) -> Iterator[Figure]:
        if model == "broken":
            raise DataError("The ledger entry 1 is damaged", remedy="restore it")
        yield Figure("model_champion_version", (model,), 1)

    reading = of_each(["broken", "iris"], read)
    assert (reading.figures, reading.unread) == ((Figure("model_champion_version", ("iris",), 1),), 1)
    assert "no figures of broken: The ledger entry 1 is damaged" in caplog.text


def test_what_all_models_are_read_of_is_asked_once_when_it_is_away() -> None:
    asked = list[str]()

    def read(model: str) -> Iterator[Figure]:
        asked.append(model)
        raise LakeError("s3://lake cannot be reached", remedy="check the network")
        yield

    with pytest.raises(LakeError):
        of_each(["iris", "weather"], read)
    assert asked == ["iris"]
