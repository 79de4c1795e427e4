"""A model that trains itself again: from drift reports to a champion that says why it is one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlops_assets.components.retrain_sensor import retrain_sensor
from resources.tracking.alias_ledger import AliasLedger
from tests.retraining import report
from tests.support import failure, messages, weather

if TYPE_CHECKING:
    from mlops_assets.spec.model_spec import ModelSpec
    from tests.support import Platform

TODAY = datetime.now(UTC).date()


def tick(platform: Platform, sensor: dg.SensorDefinition, cursor: str | None = None) -> dg.SensorResult:
    """What a tick of the sensor gives."""
    resources = {"lake": platform.lake, "tracking": platform.tracking}
    with dg.build_sensor_context(platform.instance, cursor, resources=resources) as context:
        result: Any = sensor(context)
    return result


def trained(platform: Platform, **retrain: Any) -> tuple[ModelSpec, dg.SensorDefinition]:
    """A model whose version 1 is champion, and which any later version beats; and its sensor."""
    platform.put(weather())
    gate = {"metric": "accuracy", "at_least": 0.6, "beats_champion_by": -1}
    model = platform.spec(gate=gate, retrain={"cooldown": "1s", **retrain})
    result = platform.run(model)
    assert result.success, messages(result)
    return model, retrain_sensor([model], [platform.definitions(model).resolve_job_def(model.model)])


def test_drift_brings_a_champion_that_says_why_it_is_one(platform: Platform) -> None:
    model, sensor = trained(platform)
    assert "no cause: 0 of 0 windows" in str(tick(platform, sensor).skip_reason)
    for days in (2, 1):
        report(platform.lake, model.model, TODAY - timedelta(days=days), 0.9, version=1)
    platform.put(weather(seed=1), "b.csv")
    [request] = tick(platform, sensor).run_requests or ()
    result = platform.run(model, tags=request.tags)
    assert result.success, messages(result)

    found = platform.tracking.described(model.model, 2)
    assert found is not None
    why = {name: found.tags[name] for name in request.tags if name.startswith("mlops/retrain")}
    assert why["mlops/retrain_because"].startswith("2 of the last 3 windows have drifted")
    assert request.tags.items() >= why.items()
    assert AliasLedger(platform.lake, model.model).moves("champion")[-1].evidence.items() >= why.items()
    assert platform.served() == "2"
    assert "no cause: 0 of 0 windows" in str(tick(platform, sensor).skip_reason)

    again = platform.run(model, tags=request.tags)
    assert f"The retrain {why['mlops/retrain']} of {model.model} is run {result.run_id} already" in failure(again)


@pytest.mark.long
def test_new_data_brings_a_champion_that_is_made_from_it(platform: Platform) -> None:
    model, sensor = trained(platform, on_drift=False, on_new_data=True)
    settled = tick(platform, sensor, tick(platform, sensor).cursor)
    assert "no cause" in str(settled.skip_reason)
    platform.put(weather(seed=1), "b.csv")
    seen = tick(platform, sensor, settled.cursor)
    assert "no cause" in str(seen.skip_reason)
    found = tick(platform, sensor, seen.cursor)
    [request] = found.run_requests or ()
    result = platform.run(model, tags=request.tags)
    assert result.success, messages(result)
    assert platform.champion() == 2
    assert "no cause" in str(tick(platform, sensor, found.cursor).skip_reason)
