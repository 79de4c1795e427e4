"""Jobs and schedules of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from mlops_assets.pipeline.spec import ModelSpec

PARTITION_START = {"day": "2000-01-01", "month": "2000-01"}


def jobs(spec: ModelSpec) -> list[dg.JobDefinition | dg.UnresolvedAssetJobDefinition]:  # pyright: ignore[reportPrivateImportUsage]
    """The whole life cycle as one job."""
    return [
        dg.define_asset_job(
            spec.model, selection=dg.AssetSelection.groups(spec.model), description=spec.description or None
        )
    ]


def schedules(spec: ModelSpec) -> list[dg.ScheduleDefinition]:
    """The retraining schedule, if the model has one."""
    if spec.retrain is None:
        return []
    return [
        dg.ScheduleDefinition(name=f"{spec.model}_retrain", job_name=spec.model, cron_schedule=spec.retrain.schedule)
    ]
