"""Two trainings by several workers, and GPUs for one: Kueue holds the other back, whole, until there is room for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from resources.kubernetes.queueing import is_queued
from tests.cluster.environment_copy import as_list
from tests.cluster.kubectl import NAMESPACE, kubectl, objects, run_script
from tests.cluster.platform import INPUTS, of_run, override
from tests.cluster.results import keys, training_keys
from tests.cluster.waiting import QUIET_S, stays
from tests.manifests import of_kind, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1500)]
LARGE, SMALL = "together", "beside"
GPUS = 3  # as many as LARGE has workers; SMALL has two
KUEUE = ("ResourceFlavor", "ClusterQueue", "LocalQueue")
ROLES = ("Role", "RoleBinding")
QUEUE = override("{container_config: {env: [{name: MLOPS_QUEUE, value: trainings}]}}")


@pytest.fixture
def queue(platform: Platform) -> Iterator[None]:
    """components/kueue in the tests' namespace, and slots in Dagster's pool for two trainings."""
    if not kubectl("get", "crd", "clusterqueues.kueue.x-k8s.io", "--ignore-not-found"):
        pytest.skip("the cluster lacks Kueue")
    whole = rendered("staging", ("components:\n", "components:\n  - ../../components/kueue\n"))
    found = [*of_kind(whole, *KUEUE), *(i for i in of_kind(whole, *ROLES) if i["metadata"]["name"].endswith("-queue"))]
    made = json.loads(json.dumps(found).replace("mlops-staging", NAMESPACE))
    [cluster_queue] = of_kind(made, "ClusterQueue")
    for resource in cluster_queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"]:
        if resource["name"] == "nvidia.com/gpu":
            resource["nominalQuota"] = GPUS
    try:
        kubectl("create", "-f", "-", stdin=as_list(made))
        platform.set_slots("gpu", 2)
        yield
    finally:
        platform.set_slots("gpu", 1)
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=as_list(made))


def launch(platform: Platform, model: str) -> str:
    """A run that trains."""
    if not keys(f"lake/{model}/features/"):
        platform.materialize(model, *INPUTS)
    run_script("delete_keys", *training_keys(model))
    return platform.launch(f"{model}/trained_model", config=QUEUE)


def zones(pods: list[dict[str, Any]]) -> set[str]:
    """Where they run."""
    by_name = {node["metadata"]["name"]: node["metadata"]["labels"] for node in objects("nodes")}
    return {by_name[pod["spec"]["nodeName"]]["topology.kubernetes.io/zone"] for pod in pods}


@pytest.mark.usefixtures("queue")
def test_of_two_trainings_the_second_has_no_pod_before_there_is_room_for_all_of_it(platform: Platform) -> None:
    first = launch(platform, LARGE)
    assert len(zones(platform.workers_run(first, 3))) == 1

    second = launch(platform, SMALL)
    platform.run_logs(second, "waiting in the queue trainings for room for all workers at once")
    workers = of_run(second, "training_worker")

    def waits_whole() -> bool:
        [job] = objects("pytorchjobs", "-n", NAMESPACE, "-l", workers)
        return is_queued(job) and not platform.pods(workers) and not platform.run(first).ended

    stays(waits_whole, QUIET_S, "the second training is held back, with no pod")
    platform.terminate(first)
    platform.run_is_cancelled(first)

    assert len(zones(platform.workers_run(second, 2))) == 1
    run = platform.run_succeeds(second)
    assert not run.events_of("ExecutionStepUpForRetryEvent"), "the wait costs nothing"
    assert "insufficient unused quota for nvidia.com/gpu" in run.text
    assert "raise the quota of its ClusterQueue" in run.text


@pytest.mark.usefixtures("queue")
def test_a_training_that_is_larger_than_the_quota_fails_at_once(platform: Platform) -> None:
    patch = [{"op": "replace", "path": "/spec/resourceGroups/0/flavors/0/resources/0/nominalQuota", "value": "1"}]
    kubectl("patch", "clusterqueue", "mlops", "--type", "json", "--patch", json.dumps(patch))
    run = platform.run_fails(launch(platform, SMALL))
    assert "the training is larger than the queue trainings" in run.text
    assert "Ask for fewer train.compute.workers" in run.text
    platform.pool_is_free("gpu")
