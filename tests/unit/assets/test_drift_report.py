"""What Dagster shows of a drift report, and when one is made by itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from mlops_assets.assets.drift_report import (
    columns_table,
    drift_check,
    drift_report_asset,
    drift_summaries,
    performance_table,
    summary_of,
)
from mlops_assets.assets.inference_log import inference_log_asset
from mlops_assets.ml.monitoring.column_drift import ColumnDrift
from mlops_assets.ml.monitoring.drift_report import DriftReport
from mlops_assets.ml.monitoring.live_performance import LivePerformance
from resources.lake.lake import Lake
from tests.support import spec

SHARES = {"missing": 0.25, "reference_missing": 0.0, "outside": 0.5, "threshold": 0.1}
PRESSURE = ColumnDrift(
    column="pressure", method="Wasserstein distance (normed)", value=0.4, error=0.01, drifted=True, **SHARES
)
PLACE = ColumnDrift(
    column="a|place", method="Jensen-Shannon distance", value=0.02, drifted=False, new=("Basel",), **SHARES
)
SCORE = PRESSURE.model_copy(update={"column": "score"})


def report(**changed: Any) -> DriftReport:
    made: dict[str, Any] = {
        "first_day": date(2026, 11, 11),
        "last_day": date(2026, 11, 17),
        "computed_at": datetime(2026, 11, 18, 1, 2, tzinfo=UTC),
        "status": "measured",
        "version": "3",
        "rows": 800,
        "score": 0.75,
        "columns": (PRESSURE, PLACE),
        "importance": {"pressure": 0.75, "a|place": 0.25},
        "predictions": (SCORE,),
        "skipped": {"humidity": "it is not in the log"},
        "performance": LivePerformance(rows=800, labelled=200, metrics={"accuracy": 0.7}),
        "test_metrics": {"accuracy": 0.8},
    }
    return DriftReport(**made | changed)


NONE = report(status="not enough data", reason="nobody has asked", score=None, columns=(), predictions=())


def test_the_check_warns_above_the_threshold_and_says_what_has_moved() -> None:
    check = drift_check(report(), 0.3)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description == ("score 0.75, at most 0.3 is allowed; drifted: pressure; of the answers: score")
    assert drift_check(report(), 0.75).passed


def test_the_check_has_the_verdict_on_each_column() -> None:
    metadata = {name: value.value for name, value in drift_check(report(), 0.3).metadata.items()}
    assert metadata == {
        "pressure": "drifted: Wasserstein distance (normed) 0.4",
        "a|place": "as before: Jensen-Shannon distance 0.02",
    }


def test_without_a_score_the_check_says_why_and_does_not_warn() -> None:
    check = drift_check(NONE, 0.3)
    assert (check.passed, check.description) == (True, "not enough data: nobody has asked")


def test_the_table_has_each_column_with_its_share_of_the_score() -> None:
    lines = columns_table(report()).splitlines()
    assert lines[2] == (
        "| pressure | 75% | Wasserstein distance (normed) | 0.4 ± 0.01 | 0.1 | **yes** | 50.0% | 25.0% | 0.0% |  |"
    )
    assert lines[3].startswith("| a/place | 25% |")
    assert lines[3].endswith("| `Basel` |")
    assert lines[4].startswith("| score | answer |")
    assert lines[5].startswith("| humidity | | not compared: it is not in the log |")
    assert {line.count("|") for line in lines} == {11}


def test_a_category_of_a_caller_is_no_markup_in_the_table() -> None:
    place = PLACE.model_copy(update={"new": ("![x](http://a/b.png)", "a|b\n<img>")})
    line = columns_table(report().model_copy(update={"columns": (PRESSURE, place)})).splitlines()[3]
    assert line.endswith("| `![x](http://a/b.png)`, `a/b\\n<img>` |")


def test_a_column_that_is_not_compared_may_have_any_name_too() -> None:
    made = report().model_copy(update={"skipped": {"a|b": "it is not in the log"}})
    lines = columns_table(made).splitlines()
    assert lines[-1].startswith("| a/b | | not compared: it is not in the log |")
    assert {line.count("|") for line in lines} == {11}


def test_performance_stands_beside_the_share_without_a_label_and_the_moment() -> None:
    text = performance_table(report())
    assert text.startswith("200 of 800 rows have a label, 75.0% have none, as of 2026-11-18 01:02 UTC")
    assert "| accuracy | 0.7000 | 0.8000 |" in text


def test_summaries_are_read_by_day_the_last_one_last(tmp_path: Any) -> None:
    lake = Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))
    for day, made in ((date(2026, 11, 17), report()), (date(2026, 11, 9), NONE)):
        prefix = f"weather/drift_report/{day}"
        summary = summary_of(made.model_copy(update={"last_day": day}), prefix, "v", 0.3)
        lake.store.replace(f"{prefix}/latest.json", summary.model_dump_json().encode())
    without, measured = drift_summaries(lake, "weather")
    assert (without.day, without.score) == (date(2026, 11, 9), None)
    assert (measured.drifted, measured.labelled, measured.score) == (
        {"pressure": True, "a|place": False},
        200,
        0.75,
    )


def test_each_day_is_reported_once_when_it_has_ended() -> None:
    asset = drift_report_asset(spec())
    resources = {"lake": Lake(uri="/nowhere", cache="/nowhere"), "tracking": dg.ResourceDefinition.none_resource()}
    defs = dg.Definitions(assets=[inference_log_asset(spec()), asset], resources=resources)
    begin, instance = datetime(2026, 11, 18, 0, 30, tzinfo=UTC), dg.DagsterInstance.ephemeral()
    cursor, made = None, list[set[str] | None]()
    for hours in (0, 1, 2, 25):
        moment = begin + timedelta(hours=hours)
        result = dg.evaluate_automation_conditions(defs, instance, evaluation_time=moment, cursor=cursor)
        cursor = result.cursor
        made.append(result.get_requested_partitions(asset.key))
    assert made == [set(), {"2026-11-17"}, set(), {"2026-11-18"}]
