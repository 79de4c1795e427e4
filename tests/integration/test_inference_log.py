"""From a request to the table of its day, over real servers: with labels, old days, a killed server."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
import pytest

from mlops_assets.assets.inference_log import inference_log_asset, past_retention
from tests.support import post, wait_until, weather

if TYPE_CHECKING:
    from tests.support import Platform

ROW = {"place": "Bern", "pressure": 990.0, "humidity": None}


@pytest.fixture
def deployed(platform: Platform) -> Platform:
    """A platform on which version 1 answers."""
    platform.put(weather())
    assert platform.run().success
    return platform


def materialized(platform: Platform, day: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of a day, and what Dagster shows of it."""
    asset = inference_log_asset(platform.spec())
    resources = {"lake": platform.lake}
    result = dg.materialize([asset], resources=resources, instance=platform.instance, partition_key=day)
    [event] = result.asset_materializations_for_node(asset.node_def.name)
    metadata = {name: value.value for name, value in event.metadata.items()}
    [table] = Path(metadata["dagster/uri"].removeprefix("file://")).rglob("log.parquet")
    return pd.read_parquet(table), metadata


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def test_what_was_asked_is_in_the_table_of_the_day_with_the_labels_that_came_since(deployed: Platform) -> None:
    day, url = today(), deployed.serving.server.url
    for index in range(5):
        body = {"id": f"r{index}", "instances": [ROW, ROW | {"pressure": 1010.0}]}
        assert post(f"{url}/v1/models/{deployed.model}:predict", body)[0] == 200
    labels = [{"id": "r1", "row": 1, "label": 1}]
    assert post(f"{url}/v1/models/{deployed.model}/feedback", {"labels": labels})[0] == 200
    deployed.serving.server.stop()  # it stores what it holds
    table, shown = materialized(deployed, day)
    assert sorted(set(table["request_id"])) == [f"r{index}" for index in range(5)]
    assert len(table) == 10
    assert table["label"].notna().sum() == 1
    assert set(table["version"]) == {"1"}
    assert table["input:humidity"].isna().all()
    assert set(table["output:label"]) <= {"0", "1"}
    assert (shown["rows"], shown["labelled"], shown["label_share"]) == (10, 1, 0.1)

    deployed.serving.server.ensure_running()
    labels = [{"id": "r1", "row": 1, "label": 0}, {"id": "r2", "label": 0}]
    assert post(f"{url}/v1/models/{deployed.model}/feedback", {"labels": labels}) == (200, {"stored": 2})
    table, shown = materialized(deployed, day)
    by_row = table.set_index(["request_id", "row"])
    assert (by_row.loc[("r1", 1), "label"], by_row.loc[("r1", 1), "labels_given"]) == ("0", 2)
    assert shown["labelled"] == 2


def test_a_wrong_label_is_refused_with_its_reason(deployed: Platform) -> None:
    url = f"{deployed.serving.server.url}/v1/models/{deployed.model}/feedback"
    code, content = post(url, {"labels": [{"id": "a", "label": "rain"}]})
    assert (code, content["error"]) == (400, "labels.0: label is 'rain', but must be one of 0, 1.")


def test_a_server_that_is_killed_has_what_it_stored_and_nothing_twice(deployed: Platform) -> None:
    url = f"{deployed.serving.server.url}/v1/models/{deployed.model}:predict"
    body = {"instances": [ROW] * 4_000}
    sent = 0
    while not list(_log_files(deployed)):
        assert post(url, body | {"id": f"r{sent}"})[0] == 200
        sent += 1
    pid = deployed.serving.server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: deployed.serving.server.pid() is None)
    table, _ = materialized(deployed, today())
    assert not table.duplicated(["request_id", "row"]).any()
    assert 0 < len(table) <= 4_000 * sent


def _log_files(platform: Platform) -> Any:
    return (platform.home / "lake").rglob(f"inference/{platform.model}/**/*.parquet")


def test_a_day_that_is_too_old_goes_from_the_lake_and_others_stay(platform: Platform, tmp_path: Path) -> None:
    now = datetime(2026, 11, 17, tzinfo=UTC).date()
    file = tmp_path / "a.parquet"
    file.write_bytes(b"x")
    for days in (0, 29, 30, 31, 400):
        day = now - timedelta(days=days)
        for kind in ("inference", "labels"):
            platform.lake.store.upload(file, f"{kind}/{platform.model}/{day:%Y/%m/%d}/09/s-1.parquet")
        platform.lake.store.upload(file, f"{platform.model}/inference_log/{day}/0123456789abcdef/manifest.json")
        platform.lake.store.upload(file, f"{platform.model}/drift_report/{day}/latest.json")
    platform.lake.store.upload(file, f"labels/{platform.model}/mine.parquet")
    platform.lake.store.upload(file, f"inference/{platform.model}_2/2020/01/01/09/s-1.parquet")
    old = {f"{now - timedelta(days=days):%Y-%m-%d}" for days in (31, 400)}
    found = list(past_retention(platform.lake, platform.model, now - timedelta(days=30)))
    assert len(found) == 8
    assert all(any(day in key or day.replace("-", "/") in key for day in old) for key in found)


def test_a_run_of_the_models_group_needs_no_day(deployed: Platform) -> None:
    asset = inference_log_asset(deployed.spec())
    assert asset.group_names_by_key[asset.key] == f"{deployed.model}_monitoring"
