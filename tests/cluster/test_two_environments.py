"""A second team's environment beside the first one: they share a cluster and its operators, and do not meet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from resources.kubernetes.pod_waits import waiting
from tests.cluster.cluster import with_nodes_of_tests
from tests.cluster.environment_copy import GROUNDWORK, Copy, admit, as_list
from tests.cluster.kubectl import NAMESPACE, create, kubectl, objects
from tests.cluster.test_rbac import ALLOWED, NODES, pairs, rights
from tests.cluster.waiting import POD_START_S, QUIET_S, SOON_S, stays, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
OWN = "mlops.dev/environment"
GPU = "nvidia.com/gpu"
TEAMS_GPUS = 2  # of overlays/team-b/settings.yaml


@pytest.fixture(scope="module")
def team(platform: Platform, crds: None) -> Iterator[Copy]:
    """overlays/team-b: namespace, accounts, rights, quota, admission and nodes."""
    copy = Copy("team-b")
    kinds = GROUNDWORK | {"NodePool"}
    groundwork = as_list([with_nodes_of_tests(item) for item in copy.objects if item["kind"] in kinds])

    def enforced() -> bool:
        return OWN in admitted(copy.namespace).get("nodeSelector", {})

    try:
        kubectl("create", "-f", "-", stdin=groundwork)
        wait_until(enforced, SOON_S, "its policy of admission is enforced")
        yield copy
    finally:
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=groundwork)


def sleeper(gpus: int = 0, **more: Any) -> dict[str, Any]:
    """The specification of a pod that does nothing, on a node of the kind that a stage or a training asks for."""
    [image] = {
        container["image"]
        for item in objects("deployments", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=dagster-code")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    container = {
        "name": "sleep",
        "image": image,
        "command": ["sleep", "3600"],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"memory": "64Mi"} | ({GPU: gpus} if gpus else {}),
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "nodeSelector": {"mlops.dev/pool": "gpu" if gpus else "cpu"},
        "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if gpus else [],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        **more,
    }


def admitted(namespace: str) -> dict[str, Any]:
    """What admission makes of a pod's specification."""
    answer = admit(namespace, {"spec": sleeper()})
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["spec"]


def start(namespace: str, name: str, specification: dict[str, Any]) -> None:
    create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": specification}
    )


def one_pod(namespace: str, name: str) -> dict[str, Any]:
    return json.loads(kubectl("get", "pod", name, "-n", namespace, "-o", "json"))


def told(namespace: str, name: str, reason: str) -> list[str]:
    """What events of a reason say about an object."""
    found = objects("events", "-n", namespace, "--field-selector", f"involvedObject.name={name},reason={reason}")
    return [event["message"] for event in found]


def test_each_has_pods_on_its_own_nodes_alone(team: Copy) -> None:
    start(team.namespace, "at-home", sleeper())
    wait_until(
        lambda: one_pod(team.namespace, "at-home")["status"]["phase"] == "Running", POD_START_S, "the team's pod runs"
    )
    node = one_pod(team.namespace, "at-home")["spec"]["nodeName"]
    [home] = [item for item in objects("nodes") if item["metadata"]["name"] == node]
    labels = home["metadata"]["labels"]
    assert labels["karpenter.sh/nodepool"] == f"team-b-cpu{team.suffix}"
    assert labels[OWN] == team.namespace
    assert [taint["value"] for taint in home["spec"]["taints"] if taint["key"] == OWN] == [team.namespace]

    start(NAMESPACE, "stranger", sleeper(nodeSelector={"kubernetes.io/hostname": labels["kubernetes.io/hostname"]}))
    try:
        refusal = wait_until(lambda: told(NAMESPACE, "stranger", "FailedScheduling"), SOON_S, "the stranger is refused")
        assert any("untolerated taint" in text for text in refusal)
        stays(lambda: not one_pod(NAMESPACE, "stranger")["spec"].get("nodeName"), QUIET_S, "it does not get there")
    finally:
        kubectl("delete", "pod", "stranger", "-n", NAMESPACE, "--wait=false")
        kubectl("delete", "pod", "at-home", "-n", team.namespace, "--wait=false")


def test_admission_sends_the_teams_pods_home_and_leaves_others_alone(team: Copy) -> None:
    assert admitted(team.namespace)["nodeSelector"] == {"mlops.dev/pool": "cpu", OWN: team.namespace}
    assert {item["value"] for item in admitted(team.namespace)["tolerations"] if item.get("key") == OWN} == {
        team.namespace
    }
    assert OWN not in json.dumps(admitted(NAMESPACE))


def test_accounts_of_one_have_no_rights_in_the_other(team: Copy) -> None:
    for home, other in ((team.namespace, NAMESPACE), (NAMESPACE, team.namespace)):
        for account in (name for name, allowed in ALLOWED.items() if allowed):
            cluster_wide = pairs(NODES) if account in ("dagster-run", "dagster-trainer") else set()
            assert rights(account, home, other) == cluster_wide, f"{account} of {home} in {other}"


def test_the_teams_quota_holds_and_the_first_environment_feels_nothing(platform: Platform, team: Copy) -> None:
    template = {"spec": sleeper(gpus=1, restartPolicy="Never")}
    metadata = {"name": "greedy", "namespace": team.namespace}
    job = {"parallelism": TEAMS_GPUS + 1, "completions": TEAMS_GPUS + 1, "backoffLimit": 0, "template": template}
    create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job})
    try:
        full = "exceeded quota: mlops, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=2"

        def refused() -> bool:
            return any(full in text for text in told(team.namespace, "greedy", "FailedCreate"))

        wait_until(refused, SOON_S, "the quota refuses a pod")
        events = objects("events", "-n", team.namespace, "--field-selector", "involvedObject.name=greedy")
        found = waiting("a gpu node (1 GPU)", events, None, [], [])
        assert found.cause.startswith("waiting for quota: ")
        assert found.for_capacity
        assert len(objects("pods", "-n", team.namespace, "-l", "job-name=greedy")) == TEAMS_GPUS

        platform.materialize("iris", "raw_data")
        answer = admit(NAMESPACE, {"spec": sleeper(gpus=TEAMS_GPUS)})
        assert answer.returncode == 0, answer.stderr
    finally:
        kubectl("delete", "job", "greedy", "-n", team.namespace)
