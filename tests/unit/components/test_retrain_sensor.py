"""The sensor's ticks: bounded in time, and each says what was decided and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.components.retrain_sensor import MONITORING, SENSOR, retrain_sensor, retrain_sensors
from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import Tracking
from tests.support import free_port, spec

if TYPE_CHECKING:
    import pytest

    from mlops_assets.spec.model_spec import ModelSpec
    from tests.retraining import Loop


def job(model: str) -> Any:
    return dg.define_asset_job(model, selection="*")


def tick(loop: Loop, model: ModelSpec, within_s: float = 12, cursor: str | None = None) -> dg.SensorResult:
    sensor = retrain_sensor([model], [job(model.model)], within_s)
    resources = {"lake": loop.lake, "tracking": loop.tracking}
    with dg.build_sensor_context(loop.instance, cursor, resources=resources) as context:
        result: Any = sensor(context)
    return result


def test_a_tick_says_of_each_model_why_nothing_is_begun(loop: Loop) -> None:
    loop.champion()
    result = tick(loop, loop.spec())
    assert str(result.skip_reason.skip_message if result.skip_reason else "").startswith(
        f"{loop.model}: no cause: 0 of 0"
    )
    assert result.cursor


def test_mlflow_that_is_away_is_said_and_the_cursor_stays(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    loop.tracking = Tracking(uri=f"http://127.0.0.1:{free_port()}", lake=loop.lake)
    result = tick(loop, loop.spec(), cursor="{}")
    assert "cannot be reached" in str(result.skip_reason)
    assert result.cursor == "{}"


def test_a_lake_that_hangs_ends_the_tick_in_time(loop: Loop) -> None:
    class Hanging(Lake):
        def check_space(self) -> None:
            time.sleep(2)

    loop.lake = Hanging(uri=loop.lake.uri, cache=loop.lake.cache)
    began = time.monotonic()
    result = tick(loop, loop.spec(), within_s=0.2, cursor="{}")
    assert time.monotonic() - began < 1.5
    assert "were not read within 0.2 s; the next tick looks again" in str(result.skip_reason)
    assert result.cursor == "{}"


def test_sensors_are_those_that_the_models_need() -> None:
    def names(**retrain: Any) -> list[str]:
        model = spec(**retrain)
        return [sensor.name for sensor in retrain_sensors([model], dg.Definitions(jobs=[job("weather"), job("b")]))]

    assert names() == []
    assert names(retrain={}) == [SENSOR, MONITORING]
    assert names(retrain={"on_drift": False, "max_age": "30d"}) == [SENSOR]


def test_the_sensor_runs_by_itself_and_may_begin_the_jobs_of_its_models_alone() -> None:
    model = spec(retrain={})
    sensor, monitoring = retrain_sensors([model], dg.Definitions(jobs=[job("weather"), job("b")]))
    assert [target.job_name for target in sensor.targets] == ["weather"]
    assert {one.default_status for one in (sensor, monitoring)} == {dg.DefaultSensorStatus.RUNNING}
