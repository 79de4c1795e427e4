"""Why pods wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.kubernetes.pod_waits import waiting

LONG_AGO = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
NOW = datetime.now(UTC).isoformat()


def event(reason: str, message: str, source: str = "kubelet", first: str = LONG_AGO, count: int = 1) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "source": {"component": source},
        "firstTimestamp": first,
        "lastTimestamp": NOW,
        "count": count,
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
        (
            [],
            pending(True, {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}),
            [event("Failed", 'Failed to pull image "shop/nope:1": not found'), event("Failed", "Error: ErrImagePull")],
            "shop/nope:1 cannot be pulled on node-7 (g5.xlarge spot) (ImagePullBackOff: Failed to pull image",
            "Push",
            True,
        ),
        (
            [],
            pending(True, {"reason": "CreateContainerConfigError", "message": 'secret "s"'}),
            [event("Failed", 'Error: secret "s" not found')],
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


# As they stand in Karpenter 1.14 and in kubelet's and containerd's answers
CAPACITY = (
    "no instance type which met the scheduling requirements and had enough resources, had a required offering",
    "no instance type has the required offering",
    "no instance type which had enough resources and the required offering met the scheduling requirements",
    "no instance type met the requirements/resources/offering tuple",
    "unsatisfiable topology constraint for pod affinity, key=topology.kubernetes.io/zone (counts = us-east-1a:1",
)
IMPOSSIBLE = (
    "no instance type met all requirements",
    "no instance type has enough resources",
    "no instance type met the scheduling requirements or had enough resources",
    "incompatible requirements, key karpenter.k8s.aws/instance-family, [p9] not in [g5 g6]",
)
# Of NodePools for other pods, as far as there are any
FOR_OTHERS = (
    "incompatible requirements, key mlops.dev/pool, mlops.dev/pool In [gpu] not in mlops.dev/pool In [cpu]; "
    "key karpenter.sh/capacity-type, karpenter.sh/capacity-type NotIn [spot] not in ... In [spot]",
    "did not tolerate taint (taint=mlops.dev/spot:NoSchedule)",
    "did not tolerate taint (taint=mlops.dev/environment=mlops-team-b:NoSchedule); "
    "did not tolerate taint (taint=nvidia.com/gpu=true:NoSchedule)",
)
LIMITS = ('all available instance types exceed limits for nodepool: "gpu"', "limits exceeded for nodepool")


@pytest.mark.parametrize("text", CAPACITY)
def test_a_shortage_of_nodes_is_waited_for_and_names_capacity_and_quota(text: str) -> None:
    told = event("FailedScheduling", f'Failed to schedule pod, incompatible with nodepool "gpu", {text}', "karpenter")
    found = waiting("a gpu node (1 GPU)", [], pending(False), [told], [])
    assert not found.final
    assert found.for_capacity
    assert "capacity" in found.cause
    assert "quota" in found.remedy
    assert "YAML" not in found.remedy


def for_gpus() -> dict[str, Any]:
    expressions = [{"key": "mlops.dev/pool", "operator": "In", "values": ["gpu"]}]
    required = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    pod = pending(False)
    pod["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return pod


def pools(*kinds: str) -> list[dict[str, Any]]:
    return [{"spec": {"template": {"metadata": {"labels": {"mlops.dev/pool": kind}}}}} for kind in kinds]


ALL_FOR_OTHERS = ("; ".join(FOR_OTHERS), *FOR_OTHERS, "nodepool requirements filtered out all available instance types")


@pytest.mark.parametrize("text", ALL_FOR_OTHERS)
@pytest.mark.parametrize("there_are", [pools("cpu", "gpu"), None])
def test_a_pool_that_is_used_up_is_waited_for_though_karpenter_does_not_speak_of_it(text: str, there_are: Any) -> None:
    told = event("FailedScheduling", f"Failed to schedule pod, {text}", "karpenter")
    found = waiting("a gpu node (1 GPU)", [], for_gpus(), [told], [], there_are)
    assert (found.final, found.for_capacity) == (False, True)
    assert "the cloud has none now" in found.cause
    assert "mlops.dev/pool" not in found.cause, "that is about other pods"
    assert "quota" in found.remedy


@pytest.mark.parametrize(
    ("text", "there_are"),
    [
        (FOR_OTHERS[0], pools("cpu")),
        (f"{FOR_OTHERS[0]}; {IMPOSSIBLE[0]}", pools("cpu", "gpu")),
        (f"{IMPOSSIBLE[1]}; {FOR_OTHERS[1]}", pools("cpu", "gpu")),
    ],
)
def test_a_pool_that_is_not_there_or_does_not_fit_is_no_shortage(text: str, there_are: Any) -> None:
    told = event("FailedScheduling", f"Failed to schedule pod, {text}", "karpenter")
    found = waiting("a gpu node (1 GPU)", [], for_gpus(), [told], [], there_are)
    assert found.final
    assert "no node type offers" in found.cause


@pytest.mark.parametrize("text", LIMITS)
def test_a_limit_of_the_pool_is_waited_for(text: str) -> None:
    found = waiting("a gpu node", [], pending(False), [event("FailedScheduling", text, "karpenter")], [])
    assert (found.final, found.for_capacity) == (False, True)
    assert "spec.limits" in found.remedy


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_what_no_node_type_has_is_final(text: str) -> None:
    told = event("FailedScheduling", f'Failed to schedule pod, incompatible with nodepool "gpu", {text}', "karpenter")
    found = waiting("a gpu node", [], pending(False), [told], [])
    assert found.final
    assert "YAML" in found.remedy


def test_a_node_that_cannot_be_launched_says_why() -> None:
    condition = {"type": "Launched", "status": "Unknown", "message": "creating instance, insufficient capacity"}
    claim = CLAIM | {"status": {"conditions": [condition]}}
    nominated = event("Nominated", "Pod should schedule on: nodeclaim/gpu-x7", "karpenter")
    found = waiting("a gpu node", [], pending(False), [nominated], [claim])
    assert "cannot launch g5.xlarge spot yet: creating instance, insufficient capacity" in found.cause
    assert (found.final, found.for_capacity) == (False, True)


@pytest.mark.parametrize(
    ("reason", "message", "final"),
    [
        ("ErrImagePull", "failed to do request: read tcp 10.0.0.1: connection reset by peer", False),
        ("ErrImagePull", "unexpected status from GET request: 429 Too Many Requests", False),
        ("ErrImagePull", "rpc error: code = NotFound desc = shop/nope:1: not found", True),
        ("ErrImagePull", "pull access denied, repository does not exist or may require authorization", True),
        ("InvalidImageName", 'couldn\'t parse image name "A:b:c"', True),
        ("CreateContainerError", "context deadline exceeded", False),
        ("RunContainerError", "nvidia-container-cli: initialization error: nvml error: driver not loaded", False),
    ],
)
def test_an_error_of_one_moment_after_a_slow_pull_is_tried_again(reason: str, message: str, final: bool) -> None:
    pod, told = pending(True, {"reason": reason, "message": message}), f"Error: {message}"
    just_now = datetime.now(UTC).isoformat()  # NOW is when the tests were collected, which may be minutes ago
    assert waiting("a gpu node", [], pod, [event("Failed", told, first=just_now)], []).final is (
        reason == "InvalidImageName"
    )
    assert waiting("a gpu node", [], pod, [event("Failed", told, count=2)], []).final is final


def test_what_cannot_be_started_again_and_again_is_final() -> None:
    pod = pending(True, {"reason": "RunContainerError", "message": "exec: python: not found"})
    assert waiting("a cpu node", [], pod, [event("Failed", "Error: exec: python", count=3)], []).final


def refused(asked: str, limited: str) -> list[dict[str, Any]]:
    """As Kubernetes 1.36 wrote it, of the resources for which there is no room alone."""
    words = 'Error creating: pods "big-nr6tt" is forbidden: exceeded quota: mlops, requested: requests.memory=2Gi,'
    words += f"requests.nvidia.com/gpu={asked}, used: requests.memory=4Gi,requests.nvidia.com/gpu=0, limited: "
    return [event("FailedCreate", f"{words}requests.memory=5Gi,requests.nvidia.com/gpu={limited}")]


def test_a_pod_that_no_quota_will_fit_does_not_wait() -> None:
    found = waiting("a gpu node (16 GPUs)", refused("16", "8"), None, [], [])
    assert (found.final, found.for_capacity) == (True, False)
    assert found.cause.startswith("the pod asks for more requests.nvidia.com/gpu than the whole quota has: ")
    for asked, limited in (("8", "8"), ("500m", "1"), ("1", "1k")):
        found = waiting("a gpu node (16 GPUs)", refused(asked, limited), None, [], [])
        assert (found.final, found.for_capacity) == (False, True)
