"""The jobs of a model, with partitions where its source has a start, and its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlops_assets.assets.feature_views import feature_views_asset
from mlops_assets.assets.online_features import online_features_asset
from mlops_assets.assets.raw_data import raw_data_asset
from mlops_assets.components.jobs_and_schedules import jobs, schedules
from tests.retraining import made_run
from tests.stored_views import STORED
from tests.support import attributes, spec

if TYPE_CHECKING:
    from pathlib import Path

TIMED: dict[str, Any] = {"columns": {**attributes()["columns"], "time": {"type": "timestamp"}}}


def source(by: str, start: str | None) -> dict[str, Any]:
    return TIMED | {"source": {"uri": "w/*.csv", "event_time": "time", "partition_by": by, "start": start}}


def test_a_model_has_a_job_with_its_name_and_description_and_one_for_the_way_back() -> None:
    job, rollback = jobs(spec(description="Rain tomorrow"))
    assert (job.name, job.description) == ("weather", "Rain tomorrow")
    assert rollback.name == "weather_rollback"


def test_partitions_without_a_start_make_no_job_for_backfills() -> None:
    assert [job.name for job in jobs(spec(**source("month", None)))] == ["weather", "weather_rollback"]


@pytest.mark.parametrize(
    ("by", "start", "first", "third"),
    [("month", "2013-01", "2013-01", "2013-03"), ("day", "2013-01-31", "2013-01-31", "2013-02-02")],
)
def test_a_start_makes_a_job_with_a_partition_for_each_day_or_month(
    by: str, start: str, first: str, third: str
) -> None:
    job = jobs(spec(**source(by, start)))[1]
    assert job.name == f"weather_by_{by}"
    keys = job.config.partitions_def.get_partition_keys()
    assert (keys[0], keys[2]) == (first, third)


def test_a_partition_becomes_the_last_one_that_raw_data_uses() -> None:
    config = jobs(spec(**source("month", "2013-01")))[1].config
    run_config = config.get_run_config_for_partition_key("2013-06")
    assert run_config == {"ops": {"weather__raw_data": {"config": {"last_partition": "2013-06"}}}}


SUNDAYS = {"schedule": "0 3 * * 0", "time_zone": "Europe/Zurich"}


def test_a_retraining_schedule_runs_the_models_job_at_the_time_of_its_zone(tmp_path: Path) -> None:
    [schedule] = schedules(spec(retrain=SUNDAYS))
    assert (schedule.name, schedule.job_name, schedule.cron_schedule) == ("weather_retrain", "weather", "0 3 * * 0")
    assert schedule.execution_timezone == "Europe/Zurich"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        request: Any = schedule(dg.build_schedule_context(instance))
    assert request.tags["mlops/retrain_reason"] == "schedule"


def test_a_scheduled_time_is_left_out_while_the_model_is_being_trained(tmp_path: Path) -> None:
    [schedule] = schedules(spec(retrain=SUNDAYS))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = made_run(instance, dg.RunRequest(job_name="weather"))
        made_run(instance, dg.RunRequest(job_name="weather_b"))
        skipped: Any = schedule(dg.build_schedule_context(instance))
    assert skipped.skip_message == f"run {run.run_id} is in progress"


def test_a_retraining_for_causes_alone_has_no_schedule() -> None:
    assert schedules(spec(retrain={})) == []


def test_without_retrain_nothing_is_scheduled() -> None:
    assert schedules(spec()) == []


REFRESH = {"schedule": "*/30 6-22 * * *", "time_zone": "Europe/Zurich"}


def test_a_refresh_of_online_features_has_a_job_that_trains_nothing() -> None:
    refreshed = spec(**STORED, features__refresh=REFRESH)
    assert [job.name for job in jobs(refreshed)] == ["weather", "weather_online_features", "weather_rollback"]
    assets = [make(refreshed) for make in (feature_views_asset, online_features_asset, raw_data_asset)]
    selected = jobs(refreshed)[1].selection.resolve(assets)
    assert {key.path[1] for key in selected} == {"feature_views", "online_features"}
    assert [job.name for job in jobs(spec(**STORED))] == ["weather", "weather_rollback"]


def test_online_features_are_refreshed_by_their_schedule_also_while_the_model_is_being_trained(tmp_path: Path) -> None:
    [schedule] = schedules(spec(**STORED, features__refresh=REFRESH))
    assert (schedule.name, schedule.job_name) == ("weather_online_features", "weather_online_features")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("*/30 6-22 * * *", "Europe/Zurich")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        made_run(instance, dg.RunRequest(job_name="weather"))
        assert isinstance(schedule(dg.build_schedule_context(instance)), dg.RunRequest)
        run = made_run(instance, dg.RunRequest(job_name="weather_online_features"))
        skipped: Any = schedule(dg.build_schedule_context(instance))
    assert skipped.skip_message == f"run {run.run_id} is in progress"


def test_a_model_may_be_retrained_and_refreshed_by_schedule() -> None:
    both = schedules(spec(**STORED, features__refresh=REFRESH, retrain=SUNDAYS))
    assert [schedule.name for schedule in both] == ["weather_retrain", "weather_online_features"]
