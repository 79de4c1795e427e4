"""The sensor that deletes what dead runs leave: real runs, and Jobs of an API server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from resources.kubernetes import janitor

if TYPE_CHECKING:
    from tests.kubernetes_api import ApiServer

JOBS = "/apis/batch/v1/namespaces/mlops/jobs"
Status = dg.DagsterRunStatus


@pytest.fixture(autouse=True)
def _in_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "in_cluster", lambda: "mlops")


def put(api_server: ApiServer, run_id: str, *components: str, ended: bool = False) -> None:
    """Jobs of a run, named by their component."""
    status: dict[str, Any] = {"conditions": [{"type": "Complete", "status": "True"}]} if ended else {"active": 1}
    for component in components:
        labels = {"dagster/run-id": run_id, "app.kubernetes.io/component": component}
        name = f"{component}-{run_id}"
        api_server.objects[f"{JOBS}/{name}"] = {"metadata": {"name": name, "labels": labels}, "status": status}


def add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, ended_s_ago: float | None = None) -> str:
    """A run in a state."""
    run = dg.DagsterRun(job_name="weather", status=status)
    instance.add_run(run)
    if ended_s_ago is not None:
        then = datetime.now(UTC) - timedelta(seconds=ended_s_ago)
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job_name="weather")
        instance.run_storage.handle_run_event(run.run_id, event, then)
    return run.run_id


def look(instance: dg.DagsterInstance) -> str:
    """What one evaluation of the sensor says."""
    result = janitor.delete_pods_of_dead_runs.evaluate_tick(dg.build_sensor_context(instance))
    return result.skip_message or ""


@pytest.mark.parametrize(
    ("status", "ended_s_ago", "left"),
    [
        (Status.STARTING, None, True),
        (Status.STARTED, None, True),
        (Status.CANCELING, None, True),
        (Status.STARTED, 10, True),
        (Status.STARTED, 1000, False),
        (Status.FAILURE, None, False),
        (Status.CANCELED, None, False),
    ],
    ids=["starting", "running", "being cancelled", "just succeeded", "succeeded long ago", "failed", "cancelled"],
)
def test_what_is_active_of_a_run_that_has_ended_is_deleted(
    api_server: ApiServer, status: dg.DagsterRunStatus, ended_s_ago: float | None, left: bool
) -> None:
    instance = dg.DagsterInstance.ephemeral()
    run_id = add_run(instance, status, ended_s_ago)
    put(api_server, run_id, "run_worker", "step_worker")
    message = look(instance)
    assert len(api_server.objects) == (2 if left else 0)
    names = ("run_worker", "step_worker")
    expected = "no dead run has pods" if left else "deleted " + ", ".join(f"{name}-{run_id}" for name in names)
    assert message == expected
    assert look(instance) == "no dead run has pods"


def test_jobs_whose_pods_have_ended_stay_until_their_time_is_over(api_server: ApiServer) -> None:
    instance = dg.DagsterInstance.ephemeral()
    put(api_server, add_run(instance, Status.FAILURE), "run_worker", "step_worker", ended=True)
    assert look(instance) == "no dead run has pods"
    assert len(api_server.objects) == 2


def test_of_a_run_that_dagster_does_not_know_what_has_no_worker_is_deleted(api_server: ApiServer) -> None:
    """As after its database was restored to an older state, or the run was deleted."""
    put(api_server, "alive", "run_worker", "step_worker")
    put(api_server, "orphan", "step_worker")
    assert look(dg.DagsterInstance.ephemeral()) == "deleted step_worker-orphan"
    assert len(api_server.objects) == 2
