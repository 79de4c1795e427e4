"""Removes what dead runs leave in the cluster."""

from collections.abc import Iterator

import dagster as dg

from resources.kubernetes.api import in_cluster
from resources.kubernetes.pods import Pods

EVERY_S = 30


@dg.sensor(
    name="delete_pods_of_dead_runs",
    description="Deletes step Jobs whose run has ended: those of a run that failed or was cancelled while they started",
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def delete_pods_of_dead_runs(context: dg.SensorEvaluationContext) -> Iterator[dg.SkipReason]:
    """A step Job that Dagster could not delete, because the process that would have was killed, holds a node."""
    pods = Pods(in_cluster())
    deleted: list[str] = []
    for run_id in sorted(pods.run_ids()):
        run = context.instance.get_run_by_id(run_id)
        if run is None or run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
            deleted += pods.delete_steps(run_id)
    yield dg.SkipReason(f"deleted {', '.join(deleted)}" if deleted else "no dead run has pods")
