"""Runs go on when what steers them goes away: the API server, the run's own pod, a node that says nothing."""

from __future__ import annotations

import contextlib
import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from resources.kubernetes.pod_objects import holds
from tests.cluster.faults import (
    REFUSED,
    SILENT,
    api_server_is_away,
    need_this_machine,
    node_hangs,
    pause,
)
from tests.cluster.kubectl import NAMESPACE, create, kubectl, objects, run_script
from tests.cluster.nodes import change_pool, only_nodes_of_karpenter
from tests.cluster.platform import INPUTS, of_run, step
from tests.cluster.results import keys, training_keys
from tests.cluster.waiting import GONE_S, POD_START_S, RUN_S, SILENT_NODE_S, SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.dagster_api import Run
    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
TRAINING = step("disturbed", "trained_model")


def training(platform: Platform) -> tuple[str, dict[str, Any]]:
    """A run that trains, and the pod that does."""
    if not keys("lake/disturbed/features/"):
        platform.materialize("disturbed", *INPUTS)
    run_script("delete_keys", *training_keys("disturbed"))
    run_id = platform.launch("disturbed/trained_model")

    def running() -> dict[str, Any] | None:
        pod = platform.step_pod(run_id, TRAINING)
        return pod if pod is not None and pod["status"].get("phase") == "Running" else None

    pod = wait_until(running, POD_START_S, "the training's pod runs")
    platform.pod_writes(pod, "rows/s")
    return run_id, pod


def undisturbed(platform: Platform, run_id: str, pod: dict[str, Any]) -> Run:
    """The run, which has succeeded in the pods it had."""
    run = platform.run_succeeds(run_id)
    assert not run.events_of("ExecutionStepUpForRetryEvent")
    made = {pod["metadata"]["name"] for pod in platform.pods(f"{of_run(run_id)},dagster/op={TRAINING}")}
    assert made == {pod["metadata"]["name"]}
    assert len(run.events_of("ExecutionStepStartEvent")) == 1
    return run


def test_an_api_server_that_is_away_for_a_minute_ends_nothing(platform: Platform) -> None:
    need_this_machine()
    run_id, pod = training(platform)
    other = platform.launch(job="iris")
    platform.step_starts(other, step("iris", "raw_data"))
    with api_server_is_away():
        third = platform.launch("iris/raw_data")
        pause(60)
    assert "Resuming run" not in undisturbed(platform, run_id, pod).text
    for run in (platform.run_succeeds(other), platform.run_succeeds(third)):
        assert not run.events_of("ExecutionStepUpForRetryEvent")
        started = [event["stepKey"] for event in run.events_of("ExecutionStepStartEvent")]
        assert len(started) == len(set(started)), "each step once"


@pytest.mark.long
def test_an_api_server_that_is_away_now_and_then_ends_nothing(platform: Platform) -> None:
    need_this_machine()
    run_id, pod = training(platform)
    chance = random.Random(14)
    for _ in range(5):
        with api_server_is_away(chance.choice((REFUSED, SILENT))):
            pause(chance.uniform(1, 15))
        pause(chance.uniform(0, 5))
    undisturbed(platform, run_id, pod)


def test_a_training_goes_on_when_its_runs_pod_is_evicted(platform: Platform) -> None:
    run_id, pod = training(platform)
    [worker] = platform.pods(of_run(run_id, "run_worker"))
    name = worker["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    assert "Resuming run" in undisturbed(platform, run_id, pod).text


@pytest.mark.long
def test_a_training_goes_on_when_its_runs_pod_is_preempted(platform: Platform) -> None:
    run_id, pod = training(platform)
    [worker] = platform.pods(of_run(run_id, "run_worker"))
    with more_important_pod_in_place_of(worker):
        wait_until(lambda: preempted(worker), SOON_S, "the run's pod is preempted")
    assert "Resuming run" in undisturbed(platform, run_id, pod).text


@contextlib.contextmanager
def more_important_pod_in_place_of(pod: dict[str, Any]) -> Iterator[None]:
    """A pod that wants the node of another one, and not that one beside it: the scheduler makes room."""
    metadata = {"name": "more-important"}
    klass = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": 1_000_000}
    labels = {key: pod["metadata"]["labels"][key] for key in ("dagster/run-id", "app.kubernetes.io/component")}
    rival = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    container = {key: pod["spec"]["containers"][0][key] for key in ("name", "image", "securityContext")}
    container |= {"command": ["sleep", "600"], "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    spec = {
        "priorityClassName": metadata["name"],
        "nodeSelector": {"kubernetes.io/hostname": pod["spec"]["nodeName"]},
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [rival]}},
        "securityContext": pod["spec"]["securityContext"],
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    create(klass)
    try:
        create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata | {"namespace": NAMESPACE}, "spec": spec})
        yield
    finally:
        kubectl("delete", "pod", metadata["name"], "-n", NAMESPACE, "--ignore-not-found", "--wait=false")
        kubectl("delete", "priorityclass", metadata["name"])


def preempted(pod: dict[str, Any]) -> bool:
    """Whether the scheduler has said so."""
    about = f"involvedObject.name={pod['metadata']['name']},reason=Preempted"
    return bool(objects("events", "-n", NAMESPACE, "--field-selector", about))


@pytest.mark.long
def test_a_run_on_a_node_that_has_drifted_goes_on_there(platform: Platform) -> None:
    with only_nodes_of_karpenter():
        run_id, pod = training(platform)
    [worker] = platform.pods(of_run(run_id, "run_worker"))
    node = worker["spec"]["nodeName"]

    def claim() -> dict[str, Any] | None:
        return next((item for item in objects("nodeclaims") if item["status"].get("nodeName") == node), None)

    change_pool("cpu", {"metadata": {"annotations": {"mlops.dev/drifted": "yes"}}})
    try:
        wait_until(lambda: holds(claim() or {}, "Drifted"), SOON_S, "Karpenter sees that the node has drifted")
        assert "Resuming run" not in undisturbed(platform, run_id, pod).text
        assert [pod["metadata"]["uid"] for pod in platform.pods(of_run(run_id, "run_worker"))] == [
            worker["metadata"]["uid"]
        ]
        wait_until(lambda: claim() is None, GONE_S, "the node goes when the run has ended")
    finally:
        change_pool("cpu", {"metadata": {"annotations": {"mlops.dev/drifted": None}}})


@pytest.mark.long
def test_of_two_workers_of_one_run_the_newer_goes_on_alone(platform: Platform) -> None:
    run_id, pod = training(platform)
    [job] = objects("jobs", "-n", NAMESPACE, "-l", of_run(run_id, "run_worker"))
    name = job["metadata"]["name"]
    template = job["spec"]["template"]
    for labels in (job["metadata"]["labels"], template["metadata"]["labels"]):
        for key in [key for key in labels if "controller-uid" in key or "job-name" in key]:
            del labels[key]
    container = template["spec"]["containers"][0]
    resumed = [
        part.replace("execute_run", "resume_run").replace("ExecuteRun", "ResumeRun") for part in container["args"]
    ]
    container["args"] = resumed
    metadata = {"name": f"{name}-1", "namespace": NAMESPACE, "labels": job["metadata"]["labels"]}
    spec = {"backoffLimit": 0, "template": {"metadata": template["metadata"], "spec": template["spec"]}}
    create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})

    def first_has_ended() -> bool:
        [first] = objects("pods", "-n", NAMESPACE, "-l", f"job-name={name}")
        return first["status"]["phase"] == "Succeeded"

    wait_until(first_has_ended, POD_START_S, "the older worker has ended")
    undisturbed(platform, run_id, pod)


@pytest.mark.long
def test_a_training_whose_node_falls_silent_goes_on_elsewhere(platform: Platform) -> None:
    need_this_machine()
    run_id, pod = training(platform)
    begin = time.monotonic()
    with node_hangs(pod["spec"]["nodeName"]):
        again = wait_until(
            lambda: [
                p
                for p in platform.live_pods(f"{of_run(run_id)},dagster/op={TRAINING}")
                if p["spec"].get("nodeName") not in (None, pod["spec"]["nodeName"])
            ],
            SILENT_NODE_S,
            "the training has a pod on another node",
        )
        print(f"on {again[0]['spec']['nodeName']} after {time.monotonic() - begin:.0f} s")
        run = platform.run_ends(run_id, RUN_S)
    assert run.status == "SUCCESS"
    assert "its node is not heard of any more" in run.text
    platform.pool_is_free("gpu")
