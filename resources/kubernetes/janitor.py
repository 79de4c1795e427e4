"""Removes what dead runs leave in the cluster."""

import time
from collections import defaultdict
from collections.abc import Iterator

import dagster as dg

from resources.kubernetes.api import in_cluster
from resources.kubernetes.labels import COMPONENT, RUN_ID, RUN_WORKER, STEP_WORKER
from resources.kubernetes.pod_objects import job_ended
from resources.kubernetes.pods import Pods

EVERY_S = 30
SETTLED_S = 300  # pods of a run that succeeded still write their logs
DEAD = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dg.sensor(
    name="delete_pods_of_dead_runs",
    description="Deletes the Jobs, of runs and of their steps, that still have pods when their run has ended",
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def delete_pods_of_dead_runs(context: dg.SensorEvaluationContext) -> Iterator[dg.SkipReason]:
    """A Job that Dagster could not delete, because the process that would have was killed, holds a node."""
    pods = Pods(in_cluster())
    jobs: dict[str, list[str]] = defaultdict(list)
    has_worker: set[str] = set()
    for job in pods.jobs(RUN_WORKER, STEP_WORKER):
        if job_ended(job):
            continue  # it holds nothing, and its time to live takes it away
        labels: dict[str, str] = job["metadata"]["labels"]
        jobs[labels[RUN_ID]].append(job["metadata"]["name"])
        if labels[COMPONENT] == RUN_WORKER:
            has_worker.add(labels[RUN_ID])
    known = context.instance.get_run_records(dg.RunsFilter(run_ids=list(jobs))) if jobs else []
    alive = {
        record.dagster_run.run_id
        for record in known
        if record.dagster_run.status not in DEAD
        and (record.end_time is None or time.time() - record.end_time < SETTLED_S)
    }
    # Of a run that Dagster does not know, as after its database was restored, nothing is deleted while it has a worker
    unknown = jobs.keys() - {record.dagster_run.run_id for record in known}
    deleted: list[str] = []
    for run_id in sorted(jobs.keys() - alive - (unknown & has_worker)):
        for name in jobs[run_id]:
            pods.delete_job(name)
        deleted += jobs[run_id]
    yield dg.SkipReason(f"deleted {', '.join(deleted)}" if deleted else "no dead run has pods")
