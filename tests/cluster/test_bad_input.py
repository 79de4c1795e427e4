"""What the cluster cannot give: each is told in the run's log with cause and remedy, and nothing is left behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cluster.platform import INPUTS, NAMESPACE, gpu_claims, kubectl, objects, override, until

if TYPE_CHECKING:
    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]


@pytest.mark.parametrize(
    ("config", "cause", "remedy"),
    [
        ("{image: 'localhost/not-there:1'}", "localhost/not-there:1", "Push the image"),
        ("{env_from: [{secret_ref: {name: not-there}}]}", "not-there", "Create the Secret"),
    ],
)
def test_a_pod_that_cannot_start_fails_with_cause_and_remedy(
    platform: Platform, config: str, cause: str, remedy: str
) -> None:
    config = override(f"{{container_config: {config}}}")
    run = platform.finished(platform.launch("iris/raw_data", config=config), 180)
    assert run.status == "FAILURE"
    assert cause in run.text
    told = [event for event in run.events if event["__typename"] == "EngineEvent" and remedy in event["message"]]
    assert len(told) == 1, "told once while it waits"


def test_a_pod_that_kubernetes_refuses_fails_with_cause_and_remedy(platform: Platform) -> None:
    account = json.loads(kubectl("get", "serviceaccount", "dagster-step", "-n", NAMESPACE, "-o", "json"))
    kubectl("delete", "serviceaccount", "dagster-step", "-n", NAMESPACE)
    try:
        run = platform.finished(platform.launch("iris/raw_data"), 180)
    finally:
        account["metadata"] = {
            key: account["metadata"][key] for key in ("name", "namespace", "labels") if key in account["metadata"]
        }
        kubectl("create", "-f", "-", stdin=json.dumps(account))
    assert run.status == "FAILURE"
    assert 'Kubernetes refuses the pod: Error creating: pods "dagster-step-' in run.text
    assert 'serviceaccount "dagster-step" not found' in run.text
    assert "Correct what it names in k8s/" in run.text


def test_an_init_container_that_fails_ends_the_step(platform: Platform) -> None:
    [image] = kubectl(
        *("get", "deployment", "dagster-code", "-n", NAMESPACE),
        *("-o", "jsonpath={.spec.template.spec.containers[*].image}"),
    ).split()
    rights = "{allow_privilege_escalation: false, capabilities: {drop: [ALL]}}"
    container = f"{{name: fetch, image: '{image}', command: [sh, -c, 'exit 7'], security_context: {rights}}}"
    config = override(f"{{pod_spec_config: {{init_containers: [{container}]}}}}")
    run = platform.finished(platform.launch("iris/raw_data", config=config), 180)
    assert run.status == "FAILURE"
    assert "the init container fetch ended with exit code 7 (code failure 1 of 1 that are retried)" in run.text


def test_a_step_that_dies_tells_where_how_and_its_last_lines(platform: Platform) -> None:
    crash = "{container_config: {command: [sh, -c, 'echo the last words; exit 3']}}"
    run = platform.finished(platform.launch("iris/raw_data", config=override(crash)), 180)
    assert run.status == "FAILURE"
    assert "the process ended with exit code 3 (code failure 1 of 1 that are retried)" in run.text
    [failure] = [event for event in run.events if event["__typename"] == "ExecutionStepFailureEvent"]
    entries = {entry["label"]: entry.get("text", "") for entry in failure["failureMetadata"]["metadataEntries"]}
    pod = entries["pod"]
    assert pod.startswith("dagster-step-")
    assert entries["node"] in {node["metadata"]["name"] for node in objects("nodes")}
    assert entries["exit code"] == "3"
    assert "Started" in entries["events"]
    assert "the last words" in entries["last log lines"]


@pytest.mark.parametrize(
    ("model", "cause"),
    [("no_such_family", "a gpu node (1 GPU) of family p99"), ("too_many_gpus", "a gpu node (16 GPUs)")],
)
def test_a_node_that_cannot_be_had_fails_with_cause_and_remedy(platform: Platform, model: str, cause: str) -> None:
    inputs = platform.finished(platform.launch(*(f"{model}/{stage}" for stage in INPUTS)))
    assert inputs.status == "SUCCESS", inputs.text
    before = {claim["metadata"]["name"] for claim in gpu_claims()}
    run = platform.finished(platform.launch(f"{model}/trained_model"), 180)
    assert run.status == "FAILURE"
    assert f"no node type offers {cause}" in run.text
    assert "Ask for another train.compute.gpu or instance_family" in run.text
    assert {claim["metadata"]["name"] for claim in gpu_claims()} <= before, "a node was bought that does not help"


def test_a_full_quota_is_told_while_the_step_waits(platform: Platform) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-gpus", "namespace": NAMESPACE},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(quota))
    try:
        run_id = platform.launch("too_many_gpus/trained_model")
        until("the quota is told", lambda: "waiting for quota" in platform.run(run_id).text, 120)
        assert "raise the ResourceQuota" in platform.run(run_id).text
    finally:
        kubectl("delete", "resourcequota", "no-gpus", "-n", NAMESPACE)
    platform.terminate(run_id)
    assert platform.finished(run_id, 120).status == "CANCELED"
    selector = f"dagster/run-id={run_id}"
    until("nothing of the cancelled run is left", lambda: not platform.pods(selector), 90)
    until("the slot is free", lambda: not platform.slots("gpu"), 60)
