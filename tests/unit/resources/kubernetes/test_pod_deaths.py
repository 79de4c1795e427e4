"""How pods died."""

from __future__ import annotations

from typing import Any

import pytest

from resources.kubernetes.pod_deaths import death


def dead(code: int | None, reason: str = "Error", conditions: tuple[Any, ...] = ()) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason}} if code is not None else {"running": {}}
    return {
        "metadata": {"name": "pod-1"},
        "spec": {"nodeName": "node-7", "containers": [{"resources": {"limits": {"memory": "2Gi"}}}]},
        "status": {"phase": "Failed", "conditions": list(conditions), "containerStatuses": [{"state": state}]},
    }


def refused(reason: str) -> dict[str, Any]:
    pod = dead(None)
    pod["status"] |= {"reason": reason, "message": "Node didn't have enough resource", "containerStatuses": []}
    return pod


def dead_in_init(code: int) -> dict[str, Any]:
    pod = dead(None)
    ended, held = {"terminated": {"exitCode": code}}, {"waiting": {"reason": "PodInitializing"}}
    pod["status"] |= {
        "initContainerStatuses": [{"name": "fetch", "state": ended}],
        "containerStatuses": [{"state": held}],
    }
    return pod


DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
BY_POLICY = {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]}}
BY_LIMIT = {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}}


@pytest.mark.parametrize(
    ("job", "pod", "budget", "told"),
    [
        (BY_POLICY, None, "infrastructure", "node was taken away"),
        (BY_POLICY, dead(143), "infrastructure", "disrupted"),
        (BY_LIMIT, dead(1, conditions=(DISRUPTED,)), "infrastructure", "EvictionByEvictionAPI"),
        (
            BY_LIMIT,
            {**dead(143), "metadata": {"name": "pod-1", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
            "infrastructure",
            "deleted",
        ),
        (BY_LIMIT, dead(137), "infrastructure", "SIGKILL"),
        (BY_LIMIT, dead(143), "infrastructure", "SIGTERM"),
        (BY_LIMIT, dead(137, reason="OOMKilled"), "code", "more memory than 2Gi"),
        (BY_LIMIT, dead(1), "code", "exit code 1"),
        (BY_LIMIT, dead_in_init(7), "code", "the init container fetch ended with exit code 7"),
        (BY_LIMIT, dead_in_init(137), "infrastructure", "the init container fetch was ended by SIGKILL"),
        (BY_LIMIT, refused("OutOfnvidia.com/gpu"), "infrastructure", "its node refused the pod (OutOfnvidia.com/gpu"),
        (BY_LIMIT, refused("UnexpectedAdmissionError"), "infrastructure", "its node refused the pod"),
        (None, None, "infrastructure", "gone"),
    ],
)
def test_a_death_is_told_by_conditions_and_exit_codes(job: Any, pod: Any, budget: str, told: str) -> None:
    found = death(job, pod)
    assert found.budget == budget
    assert told in found.cause


def test_a_pod_that_was_last_seen_running_and_is_gone_was_deleted() -> None:
    assert death(BY_LIMIT, dead(None), gone=True).budget == "infrastructure"
    assert death(BY_LIMIT, dead(None), gone=False).budget == "code"
    assert death(BY_LIMIT, dead(1), gone=True).budget == "code"
