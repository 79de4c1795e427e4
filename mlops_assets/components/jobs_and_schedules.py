"""Jobs and schedules of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.components.retrain_runs import UNFINISHED, runs_in_progress
from mlops_assets.components.rollback import rollback_job
from mlops_assets.ml.data.windows import FORMATS
from mlops_assets.spec.model_spec import REFRESH_SUFFIX
from resources.kubernetes.labels import MODEL
from resources.lake.retrain_ledger import REASON, SCHEDULE

if TYPE_CHECKING:
    from mlops_assets.spec.model_spec import ModelSpec, Refresh
    from mlops_assets.spec.source import Source


def jobs(spec: ModelSpec) -> list[Any]:
    """The whole life cycle as one job, as one that can be backfilled where the source has partitions, the refresh of
    online features where it has a schedule, and the way back to another version.
    """
    selection, tags = dg.AssetSelection.groups(spec.model), {MODEL: spec.model}
    made = [dg.define_asset_job(spec.model, selection=selection, tags=tags, description=spec.description or None)]
    if spec.source.start is not None:
        by = spec.source.partition_by
        description = f"The whole life cycle on the data up to the end of one {by}; older data moves no champion"
        config = _up_to_partition(spec.model, spec.source)
        name = f"{spec.model}_by_{by}"
        made.append(dg.define_asset_job(name, selection=selection, tags=tags, config=config, description=description))
    if spec.features.refresh is not None:
        stages = dg.AssetSelection.assets(*([spec.model, stage] for stage in ("feature_views", "online_features")))
        description = "Brings the newest values of the model's feature views into the online store, and trains nothing"
        name = f"{spec.model}{REFRESH_SUFFIX}"
        made.append(dg.define_asset_job(name, selection=stages, tags=tags, description=description))
    return [*made, rollback_job(spec)]


def _up_to_partition(model: str, source: Source) -> dg.PartitionedConfig[Any]:
    assert source.partition_by != "none"
    assert source.start is not None
    kinds = {"day": dg.DailyPartitionsDefinition, "month": dg.MonthlyPartitionsDefinition}
    partitions = kinds[source.partition_by](start_date=source.start, fmt=FORMATS[source.partition_by])

    def run_config(key: str) -> dict[str, Any]:
        return {"ops": {f"{model}__raw_data": {"config": {"last_partition": key}}}}

    return dg.PartitionedConfig(partitions_def=partitions, run_config_for_partition_key_fn=run_config)


def schedules(spec: ModelSpec) -> list[dg.ScheduleDefinition]:
    """The schedules of retraining and of refreshing online features, as far as the model has them."""
    made = list[dg.ScheduleDefinition]()
    if spec.retrain is not None and spec.retrain.schedule is not None:
        made.append(_retrain(spec, spec.retrain.schedule, spec.retrain.time_zone))
    if spec.features.refresh is not None:
        made.append(_refresh(spec, spec.features.refresh))
    return made


def _retrain(spec: ModelSpec, cron: str, time_zone: str) -> dg.ScheduleDefinition:
    """It leaves out a time at which the model is being trained."""

    @dg.schedule(
        name=f"{spec.model}_retrain",
        job_name=spec.model,
        cron_schedule=cron,
        execution_timezone=time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def retrain(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        run = runs_in_progress(context.instance, [spec.model]).get(spec.model)
        if run is not None:
            return dg.SkipReason(f"run {run.run_id} is in progress")
        return dg.RunRequest(tags={REASON: SCHEDULE})

    return retrain


def _refresh(spec: ModelSpec, refresh: Refresh) -> dg.ScheduleDefinition:
    """It leaves out a time at which the refresh before goes on; a training, which takes hours, holds nothing back."""
    job = f"{spec.model}{REFRESH_SUFFIX}"

    @dg.schedule(
        name=job,
        job_name=job,
        cron_schedule=refresh.schedule,
        execution_timezone=refresh.time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def refreshed(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        runs = context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1)
        return dg.SkipReason(f"run {runs[0].run_id} is in progress") if runs else dg.RunRequest()

    return refreshed
