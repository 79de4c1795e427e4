"""A model that trains itself again: from a drift report to a champion that says why it is one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlops_assets.assets.handles import DriftSummary
from mlops_assets.components.retrain_sensor import retrain_sensor
from resources.lake.retrain_ledger import RetrainLedger
from resources.tracking.alias_ledger import AliasLedger
from tests.support import check_results, failure, messages, weather

if TYPE_CHECKING:
    from mlops_assets.spec.model_spec import ModelSpec
    from tests.support import Platform

TODAY = datetime.now(UTC).date()


def report(platform: Platform, day: date, version: int, score: float) -> None:
    """Put a drift report about a version into the lake, as `drift_report` does."""
    made = DriftSummary(
        prefix="p",
        version="v",
        day=day,
        computed_at=datetime.now(UTC),
        status="measured",
        reason="",
        model_version=str(version),
        rows=1000,
        labelled=0,
        score=score,
        threshold=0.3,
        drifted={},
        values={},
        metrics={},
    )
    key = f"{platform.lake.name_of(platform.model)}/drift_report/{day}/latest.json"
    platform.lake.store.replace(key, made.model_dump_json().encode())


def drift(platform: Platform, version: int) -> None:
    for days in (2, 1):
        report(platform, TODAY - timedelta(days=days), version, 0.9)


def tick(platform: Platform, model: ModelSpec, cursor: str | None = None) -> dg.SensorResult:
    """What a tick of the sensor gives."""
    sensor = retrain_sensor([model], [platform.definitions(model).resolve_job_def(model.model)])
    resources = {"lake": platform.lake, "tracking": platform.tracking}
    with dg.build_sensor_context(platform.instance, cursor, resources=resources) as context:
        result: Any = sensor(context)
    return result


@pytest.fixture
def model(platform: Platform) -> ModelSpec:
    """A champion, version 1, and the YAML by which it is trained again."""
    platform.put(weather())
    model = platform.spec(retrain={"on_new_data": True, "cooldown": "1s"})
    result = platform.run(model)
    assert result.success, messages(result)
    return model


def test_drift_brings_a_run_and_its_champion_says_why(platform: Platform, model: ModelSpec) -> None:
    assert "0 of 0 windows" in str(tick(platform, model).skip_reason)
    drift(platform, 1)
    platform.put(weather(seed=1), "b.csv")
    [request] = tick(platform, model).run_requests or ()
    key = f"drift/{TODAY - timedelta(days=1)}"
    assert request.tags["mlops/retrain"] == key
    assert "has no run" in str(tick(platform, model).skip_reason)

    result = platform.run(model, tags=request.tags)
    assert result.success, messages(result)
    found = platform.tracking.described(model.model, 2)
    assert found is not None
    assert found.tags["mlops/retrain_reason"] == "drift"
    assert found.tags["mlops/retrain_because"].startswith("2 of the last 3 windows have drifted")
    if platform.champion() == 2:
        assert AliasLedger(platform.lake, model.model).moves("champion")[-1].evidence["mlops/retrain"] == key
    again = platform.run(model, tags=request.tags)
    assert failure(again) == f"The retrain {key} of {model.model} is run {result.run_id} already; look there; " + (
        "a run without the tag mlops/retrain is one of its own."
    )
    print(tick(platform, model).skip_reason, check_results(result).keys(), RetrainLedger)
