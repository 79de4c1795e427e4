"""Nodes go while a model is asked and rolled out: drained as before an upgrade, or taken away as a spot node is."""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.serving.declaration import CANDIDATE
from resources.kubernetes.labels import VERSION
from resources.kubernetes.pod_objects import holds
from tests.cluster.kubectl import NAMESPACE, kubectl, objects
from tests.cluster.live_model import calling, roll_out
from tests.cluster.nodes import only_nodes_of_karpenter
from tests.cluster.platform import step
from tests.cluster.waiting import GONE_S, POD_START_S, SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1500)]
MODEL = SERVICE = "iris"
CHAMPIONS_PODS = 2
OF_KARPENTER = "karpenter.sh/nodepool"


@pytest.fixture(scope="module")
def step_pod(platform: Platform) -> dict[str, Any]:
    """The pod that deployed the model; what is run like it stays where the nodes do."""
    run_id = platform.launch(job=MODEL)
    platform.run_succeeds(run_id)
    pod = platform.step_pod(run_id, step(MODEL, "deployment"))
    assert pod is not None
    lasting = copy.deepcopy(pod)
    terms = [{"matchExpressions": [{"key": OF_KARPENTER, "operator": "DoesNotExist"}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    lasting["spec"]["affinity"] = {"nodeAffinity": required}
    # New predictors do not come there
    cordoned = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    lasting["spec"].setdefault("tolerations", []).append(cordoned)
    return lasting


@pytest.fixture(scope="module", autouse=True)
def on_nodes_that_go(step_pod: dict[str, Any], platform: Platform) -> Iterator[None]:
    """The model's pods are on nodes of Karpenter, as all that come from now on."""
    with only_nodes_of_karpenter():
        stays = {pod["spec"]["nodeName"] for pod in serving(platform, SERVICE)} - {*nodes_that_go()}
        for node in stays:
            of_model = (
                "-l",
                f"serving.kserve.io/inferenceservice={SERVICE}",
                "--field-selector",
                f"spec.nodeName={node}",
            )
            kubectl("delete", "pod", "-n", NAMESPACE, *of_model)
        wait_until(lambda: len(serving(platform, SERVICE)) == CHAMPIONS_PODS, POD_START_S, "the model is back")
        yield


def nodes_that_go() -> dict[str, str]:
    """The nodes of Karpenter, and their NodeClaims."""
    claims = objects("nodeclaims")
    return {claim["status"]["nodeName"]: claim["metadata"]["name"] for claim in claims if "nodeName" in claim["status"]}


def serving(platform: Platform, service: str) -> list[dict[str, Any]]:
    """The pods of a service that answer and stay."""
    found = platform.live_pods(f"serving.kserve.io/inferenceservice={service}")
    return [pod for pod in found if holds(pod, "Ready")]


def named(pod: dict[str, Any]) -> str:
    return pod["metadata"]["name"]


def served_version() -> int:
    """The version that is champion by the cluster's word."""
    found = json.loads(kubectl("get", "inferenceservice", "-n", NAMESPACE, SERVICE, "-o", "json"))
    return int(found["metadata"]["annotations"][VERSION])


@contextmanager
def drained(node: str) -> Generator[None]:
    """The node is drained, by evictions that heed the PodDisruptionBudgets."""
    options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={GONE_S}s")
    try:
        kubectl("drain", node, *options)
        yield
    finally:
        kubectl("uncordon", node)


@contextmanager
def taken_away(node: str) -> Generator[None]:
    """The node is taken away, as by a spot interruption."""
    kubectl("delete", "nodeclaim", nodes_that_go()[node], "--wait=false")
    yield
    wait_until(lambda: node not in nodes_that_go(), GONE_S, "the node has gone")


@pytest.mark.parametrize("going", [drained, taken_away])
@pytest.mark.parametrize("whose", ["champion", "candidate"])
def test_a_node_that_goes_in_mid_roll_out_costs_no_caller_an_answer_and_no_version_its_promotion(
    platform: Platform, step_pod: dict[str, Any], whose: str, going: Callable[[str], Any]
) -> None:
    version = served_version() + 1
    service = SERVICE if whose == "champion" else SERVICE + CANDIDATE
    with calling(step_pod, MODEL) as got, roll_out(step_pod, MODEL, version, 2000) as rollout:
        rollout.reaches("shadowed")
        wait_until(lambda: got()["versions"].get(str(version)), SOON_S, "the candidate answers some", every_s=0.2)
        pod = serving(platform, service)[0]
        with going(pod["spec"]["nodeName"]):
            wait_until(lambda: named(pod) not in map(named, serving(platform, service)), GONE_S, "its pod goes")
            states = rollout.ends()  # the candidate was proved anew, or another pod of it answered in time
        assert states[-3:] == ["canary", "promoted", "baked"]
        wait_until(lambda: len(serving(platform, SERVICE)) == CHAMPIONS_PODS, POD_START_S, "the model has all its pods")
        found = got()
    assert found["failed"] == 0, found["failures"]
    assert served_version() == version


def test_the_node_of_a_single_pod_is_not_held_up_and_the_model_comes_back(
    platform: Platform, step_pod: dict[str, Any]
) -> None:
    with pods_of_the_model(1), calling(step_pod, MODEL) as got:
        wait_until(lambda: len(serving(platform, SERVICE)) == 1, SOON_S, "one pod answers")
        [pod] = serving(platform, SERVICE)
        with drained(pod["spec"]["nodeName"]):
            wait_until(lambda: serving(platform, SERVICE), POD_START_S, "another pod answers")
        answered = sum(got()["versions"].values())
        wait_until(lambda: sum(got()["versions"].values()) > answered + 100, SOON_S, "callers get answers")
        print(f"{got()['failed']} of {sum(got()['versions'].values())} requests failed")


@contextmanager
def pods_of_the_model(count: int) -> Generator[None]:
    """The model has so many pods, as by `deploy.scale`."""

    def scale(least: int, most: int) -> None:
        patch = {"spec": {"predictor": {"minReplicas": least, "maxReplicas": most}}}
        kubectl("patch", "inferenceservice", "-n", NAMESPACE, SERVICE, "--type", "merge", "-p", json.dumps(patch))

    [found] = [item for item in objects("inferenceservices", "-n", NAMESPACE) if item["metadata"]["name"] == SERVICE]
    usual = found["spec"]["predictor"]
    scale(count, count)
    try:
        yield
    finally:
        scale(usual["minReplicas"], usual["maxReplicas"])
