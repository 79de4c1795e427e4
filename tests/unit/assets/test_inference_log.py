"""When the log of a day is made by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from mlops_assets.assets.inference_log import inference_log_asset
from resources.lake.lake import Lake
from tests.support import spec


def test_each_day_is_made_once_when_it_has_ended() -> None:
    asset = inference_log_asset(spec())
    defs = dg.Definitions(assets=[asset], resources={"lake": Lake(uri="/nowhere", cache="/nowhere")})
    begin, instance = datetime(2026, 11, 18, 0, 30, tzinfo=UTC), dg.DagsterInstance.ephemeral()
    cursor, made = None, list[set[str] | None]()
    for hours in (0, 1, 2, 25, 26):
        result = dg.evaluate_automation_conditions(
            defs, instance, evaluation_time=begin + timedelta(hours=hours), cursor=cursor
        )
        cursor = result.cursor
        made.append(result.get_requested_partitions(asset.key))
    assert made == [set(), {"2026-11-17"}, set(), {"2026-11-18"}, set()]
