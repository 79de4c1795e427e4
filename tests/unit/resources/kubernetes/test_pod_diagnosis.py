"""Why pods wait, and how they died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.kubernetes.pod_diagnosis import death, waiting

LONG_AGO = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
NOW = datetime.now(UTC).isoformat()


def event(reason: str, message: str, source: str = "kubelet", time: str = NOW) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "source": {"component": source},
        "firstTimestamp": LONG_AGO,
        "lastTimestamp": time,
        "metadata": {},
    }


def pending(scheduled: bool, container: dict[str, Any] | None = None) -> dict[str, Any]:
    status = "True" if scheduled else "False"
    condition = {"type": "PodScheduled", "status": status, "lastTransitionTime": LONG_AGO, "message": "0/1 nodes"}
    containers = [{"image": "shop/nope:1", "state": {"waiting": container}}] if container else []
    return {
        "metadata": {"name": "pod-1"},
        "spec": {"nodeName": "node-7" if scheduled else None, "containers": [{"image": "shop/nope:1"}]},
        "status": {"phase": "Pending", "conditions": [condition], "containerStatuses": containers},
    }


CLAIM = {
    "status": {"nodeName": "node-7"},
    "metadata": {
        "name": "gpu-x7",
        "labels": {"node.kubernetes.io/instance-type": "g5.xlarge", "karpenter.sh/capacity-type": "spot"},
    },
}
REFUSED = 'incompatible with nodepool "gpu", no instance type met the requirements'


@pytest.mark.parametrize(
    ("job_events", "pod", "events", "told", "remedy", "final"),
    [
        ([event("FailedCreate", "pods is forbidden: exceeded quota: gpus")], None, [], "quota", "ResourceQuota", False),
        ([event("FailedCreate", 'violates PodSecurity "restricted"')], None, [], "refuses the pod", "k8s/", True),
        ([], None, [], "to create the pod", "", False),
        (
            [],
            pending(False),
            [event("Nominated", "Pod should schedule on: nodeclaim/gpu-x7")],
            "g5.xlarge spot",
            "",
            False,
        ),
        (
            [],
            pending(False),
            [event("FailedScheduling", REFUSED, "karpenter")],
            "no node type offers",
            "NodePool",
            True,
        ),
        (
            [],
            pending(False),
            [event("FailedScheduling", "exceeds limits", "karpenter")],
            "limits",
            "spec.limits",
            False,
        ),
        ([], pending(False), [], "0/1 nodes", "", False),
        ([], pending(True, {"reason": "ImagePullBackOff", "message": "not found"}), [], "shop/nope:1", "Push", True),
        (
            [],
            pending(True, {"reason": "CreateContainerConfigError", "message": 'secret "s"'}),
            [],
            "secret",
            "Secret",
            True,
        ),
        ([], pending(True), [event("FailedMount", 'configmap "c" not found')], "volume", "Create", True),
        ([], pending(True, {"reason": "ContainerCreating"}), [], "starting on node-7 (g5.xlarge spot)", "", False),
    ],
)
def test_a_pod_that_waits_is_explained(
    job_events: list[Any], pod: Any, events: list[Any], told: str, remedy: str, final: bool
) -> None:
    found = waiting("a gpu node (1 GPU)", job_events, pod, events, [CLAIM])
    assert told in found.cause
    assert remedy in found.remedy
    assert found.final is final
    assert "40 s of at most 900 s" in found.text(40, 900)


def test_a_cause_that_is_worded_anew_is_the_same_topic() -> None:
    pods = [
        pending(True, {"reason": "ErrImagePull", "message": "not found"}),
        pending(True, {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}),
    ]
    first, second = (waiting("a cpu node", [], pod, [], []) for pod in pods)
    assert first.cause != second.cause
    assert first.topic == second.topic


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
        (BY_LIMIT, {**dead(143), "metadata": {"name": "pod-1", "deletionTimestamp": NOW}}, "infrastructure", "deleted"),
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
