"""From requests to a drift report, over real servers: what has moved, and how good answers were."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pytest

from mlops_assets.assets.drift_report import PAGE, drift_report_asset, drift_summaries
from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile
from resources.tracking.model_registry import digest_tag
from tests.support import post, weather

if TYPE_CHECKING:
    import pandas as pd

    from tests.support import Platform

ROWS = 600


@pytest.fixture
def deployed(platform: Platform) -> Platform:
    """A platform on which version 1 answers, made from enough rows for distances."""
    platform.put(weather(4_000))
    assert platform.run().success
    return platform


def ask(platform: Platform, rows: pd.DataFrame, request_id: str) -> None:
    """One request with these rows."""
    frame = rows.drop(columns="rain").astype(object)
    instances = frame.where(frame.notna(), None).to_dict("records")
    url = f"{platform.serving.server.url}/v1/models/{platform.model}"
    assert post(f"{url}:predict", {"id": request_id, "instances": instances})[0] == 200


def tell(platform: Platform, rows: pd.DataFrame, request_id: str) -> None:
    """The truth about the first of the rows of a request."""
    labels = [{"id": request_id, "row": row, "label": bool(rain)} for row, rain in enumerate(rows["rain"])]
    url = f"{platform.serving.server.url}/v1/models/{platform.model}/feedback"
    assert post(url, {"labels": labels})[0] == 200


def reported(platform: Platform, day: date | None = None, **monitor: Any) -> tuple[dict[str, Any], Any]:
    """What Dagster shows of the report of a day, and its check; the server has stored what it held."""
    platform.serving.server.stop()
    asset = drift_report_asset(platform.spec(monitor=monitor))
    resources = {"lake": platform.lake, "tracking": platform.tracking}
    key = f"{day or datetime.now(UTC):%Y-%m-%d}"
    result = dg.materialize([asset], resources=resources, instance=platform.instance, partition_key=key)
    platform.serving.server.ensure_running()
    [event] = result.asset_materializations_for_node(asset.node_def.name)
    [check] = result.get_asset_check_evaluations()
    return {name: value.value for name, value in event.metadata.items()}, check


def test_traffic_as_in_training_has_no_drift_and_traffic_that_moved_has(deployed: Platform) -> None:
    ask(deployed, weather(ROWS, seed=1), "before")
    shown, check = reported(deployed)
    assert (shown["status"], shown["rows"], shown["score"]) == ("measured", ROWS, 0)
    assert check.passed
    assert check.description == "score 0.00, at most 0.3 is allowed; no column has drifted"

    moved = weather(ROWS, seed=2)
    moved["pressure"] += 25
    moved.loc[:50, "place"] = "Basel"
    ask(deployed, moved, "moved")
    shown, check = reported(deployed)
    assert shown["rows"] == 2 * ROWS
    assert shown["score"] > 0.3
    assert not check.passed
    assert "drifted: pressure" in check.description
    assert "Basel" in shown["columns"]
    [summary] = drift_summaries(deployed.lake, deployed.model)
    assert (summary.score, summary.threshold) == (shown["score"], 0.3)
    assert summary.drifted["pressure"]
    assert (summary.model_version, summary.rows, summary.labelled) == ("1", 2 * ROWS, 0)
    page = deployed.lake.fetch(summary.prefix, summary.version) / PAGE
    assert "pressure" in page.read_text()
    version = deployed.tracking.numbered(deployed.model, 1)
    assert version is not None
    client = deployed.tracking.client
    assert client.get_run(version.run_id).data.metrics["drift_score"] == pytest.approx(shown["score"])
    assert client.get_run(version.run_id).info.status == "FINISHED"
    pictures = {item.path for item in client.list_artifacts(version.run_id, f"drift/{summary.day}")}
    assert pictures == {f"drift/{summary.day}/drift.png"}


def test_a_page_that_evidently_does_not_make_costs_no_figure(deployed: Platform) -> None:
    rows = weather(ROWS, seed=8)
    rows["humidity"] = 3e38 * (-1.0) ** rows.index  # a range that float32 does not have
    ask(deployed, rows, "a")
    shown, _ = reported(deployed)
    assert "| humidity |" in shown["columns"]
    assert shown["score"] > 0
    assert "evidently" not in shown


def test_late_labels_change_the_performance_of_a_day_and_the_report_says_from_which_share(deployed: Platform) -> None:
    rows = weather(ROWS, seed=3)
    ask(deployed, rows, "a")
    first, _ = reported(deployed)
    assert first["label_share"] == 0
    assert "0 of 600 rows have a label, 100.0% have none, as of 20" in first["performance"]
    tell(deployed, rows[:150], "a")
    second, _ = reported(deployed)
    assert second["label_share"] == 0.25
    assert "150 of 600 rows have a label, 75.0% have none" in second["performance"]
    [summary] = drift_summaries(deployed.lake, deployed.model)
    assert summary.metrics["accuracy"] > 0.6
    assert second["computed_at"] > first["computed_at"]
    again, _ = reported(deployed)
    assert again["computed_at"] == second["computed_at"]  # nothing new has come


def test_a_window_of_few_rows_has_no_figure(deployed: Platform) -> None:
    ask(deployed, weather(40, seed=4), "a")
    shown, check = reported(deployed)
    assert shown["status"] == "not enough data: version 1 has answered 40 rows, and monitor.min_rows is 500"
    assert "score" not in shown
    assert check.passed
    shown, _ = reported(deployed, min_rows=40)
    assert shown["status"] == "measured"


def test_a_day_on_which_nobody_asked_is_told(deployed: Platform) -> None:
    shown, check = reported(deployed, date(2026, 1, 9))
    assert shown["status"] == "not enough data: nobody has asked, or the log keeps nothing"
    assert check.passed


def test_a_version_without_a_reference_is_told_with_what_to_do(deployed: Platform) -> None:
    ask(deployed, weather(ROWS, seed=5), "a")
    tag = digest_tag(ReferenceProfile.FILE)
    deployed.tracking.client.delete_model_version_tag(deployed.model, "1", tag)
    shown, _ = reported(deployed)
    assert shown["status"].startswith("no reference: version 1 has no reference profile; materialize the model's group")


def test_columns_that_are_not_in_the_log_are_named_and_do_not_count(platform: Platform) -> None:
    platform.put(weather(4_000))
    left_out = {"deploy": {"inference_log": {"leave_out": ["humidity"]}}}
    assert platform.run(platform.spec(**left_out)).success
    moved = weather(ROWS, seed=6)
    moved["humidity"] = 1.0
    ask(platform, moved, "a")
    shown, check = reported(platform)
    assert "| humidity | | not compared: it is not in the log" in shown["columns"]
    assert check.passed


def test_only_days_of_the_window_count(deployed: Platform) -> None:
    generator, day = np.random.default_rng(0), datetime.now(UTC).date()
    ask(deployed, weather(ROWS, seed=7), "a")
    deployed.serving.server.stop()
    files = deployed.lake.store.list(f"inference/{deployed.model}/{day:%Y/%m/%d}/**/*.parquet")
    local = deployed.lake.store.local_path(max(files, key=lambda file: file.size))
    assert local is not None
    for before in (1, 6, 7):
        past = day - timedelta(days=before)
        key = f"inference/{deployed.model}/{past:%Y/%m/%d}/09/s-{generator.integers(9)}.parquet"
        deployed.lake.store.upload(local, key)
    assert reported(deployed)[0]["rows"] == 3 * ROWS
    assert reported(deployed, window="1d")[0]["rows"] == ROWS
