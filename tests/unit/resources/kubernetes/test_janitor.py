"""The sensor that deletes what dead runs leave: real runs, and step Jobs that stand in a dictionary."""

from __future__ import annotations

import dagster as dg
import pytest

from resources.kubernetes import janitor

STATUSES = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)


class StepJobs:
    """What the sensor asks of `Pods`: step Jobs by the run they belong to."""

    def __init__(self) -> None:
        self.by_run: dict[str, list[str]] = {}

    def run_ids(self) -> set[str]:
        return set(self.by_run)

    def delete_steps(self, run_id: str) -> list[str]:
        return self.by_run.pop(run_id)


@pytest.fixture
def step_jobs(monkeypatch: pytest.MonkeyPatch) -> StepJobs:
    """What is in the cluster."""
    made = StepJobs()
    monkeypatch.setattr(janitor, "in_cluster", lambda: "mlops")
    monkeypatch.setattr(janitor, "Pods", lambda _: made)
    return made


@pytest.fixture
def instance(step_jobs: StepJobs) -> dg.DagsterInstance:
    """An instance with a run of each kind, each of which has a step Job."""
    instance = dg.DagsterInstance.ephemeral()
    for status in STATUSES:
        run = dg.DagsterRun(job_name="weather", status=status)
        instance.add_run(run)
        step_jobs.by_run[run.run_id] = [f"step-of-{status.value}"]
    step_jobs.by_run["nobody-knows-it"] = ["step-of-UNKNOWN"]
    return instance


def look(instance: dg.DagsterInstance) -> str:
    """What one evaluation of the sensor says."""
    result = janitor.delete_pods_of_dead_runs.evaluate_tick(dg.build_sensor_context(instance))
    return result.skip_message or ""


def test_steps_of_runs_that_failed_were_cancelled_or_are_unknown_are_deleted(
    instance: dg.DagsterInstance, step_jobs: StepJobs
) -> None:
    message = look(instance)
    left = sorted(name for names in step_jobs.by_run.values() for name in names)
    assert left == ["step-of-STARTED", "step-of-SUCCESS"]
    assert all(f"step-of-{status}" in message for status in ("FAILURE", "CANCELED", "UNKNOWN"))


def test_where_no_run_is_dead_it_says_so(instance: dg.DagsterInstance) -> None:
    look(instance)
    assert look(instance) == "no dead run has pods"
