"""Phases, conditions and events of Kubernetes' objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.kubernetes.pod_objects import ended, holds, job_ended, latest, overdue, seconds_since, started


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("phase", "has_started", "has_ended"),
    [(None, False, False), ("Pending", False, False), ("Running", True, False), ("Failed", True, True)],
)
def test_a_pod_has_started_and_ended_by_its_phase(phase: str | None, has_started: bool, has_ended: bool) -> None:
    pod = {"status": {"phase": phase}}
    assert (started(pod), ended(pod)) == (has_started, has_ended)


@pytest.mark.parametrize(("due_s", "expected"), [(-30, False), (10, False), (60, True)])
def test_a_pod_is_overdue_well_after_its_grace_period(due_s: float, expected: bool) -> None:
    assert overdue({"metadata": {"deletionTimestamp": ago(due_s)}}) is expected
    assert not overdue({"metadata": {}})
    assert not overdue(None)


def test_conditions_that_are_not_there_do_not_hold() -> None:
    failed = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    assert holds(failed, "Failed")
    assert not holds(failed, "Complete")
    assert not holds({}, "Failed")
    assert job_ended(failed)
    assert not job_ended({"status": {"conditions": None}})


def test_the_latest_event_is_the_one_seen_last_by_a_component() -> None:
    def event(time: dict[str, Any], source: str) -> dict[str, Any]:
        return {"reason": "FailedScheduling", "reportingComponent": source, "metadata": {}, **time}

    first = event({"lastTimestamp": "2026-01-01T00:00:05Z"}, "karpenter")
    second = event({"eventTime": "2026-01-01T00:00:09Z"}, "default-scheduler")
    assert latest([second, first], "FailedScheduling") == second
    assert latest([second, first], "FailedScheduling", "karpenter") == first
    assert latest([second, first], "Nominated") is None


def test_seconds_are_counted_from_times_as_kubernetes_writes_them() -> None:
    assert seconds_since((datetime.now(UTC) - timedelta(seconds=20)).strftime("%Y-%m-%dT%H:%M:%SZ")) == pytest.approx(
        20, abs=3
    )
    assert seconds_since(None) == 0
