"""What the cluster cannot provide: the run's log names cause and remedy, and nothing is left behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.kubectl import NAMESPACE, create, kubectl, names, objects
from tests.cluster.nodes import gpu_claims
from tests.cluster.platform import INPUTS, override
from tests.cluster.waiting import QUIET_S, SOON_S, stays, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    run = platform.run_fails(platform.launch("iris/raw_data", config=config))
    assert cause in run.text
    warnings = [event for event in run.events_of("EngineEvent") if remedy in event["message"]]
    assert len(warnings) == 1, "logged once while it waits"


def test_a_pod_that_kubernetes_refuses_fails_with_cause_and_remedy(platform: Platform) -> None:
    account = json.loads(kubectl("get", "serviceaccount", "dagster-step", "-n", NAMESPACE, "-o", "json"))
    kubectl("delete", "serviceaccount", "dagster-step", "-n", NAMESPACE)
    try:
        run = platform.run_fails(platform.launch("iris/raw_data"))
    finally:
        account["metadata"] = {
            key: account["metadata"][key] for key in ("name", "namespace", "labels") if key in account["metadata"]
        }
        create(account)
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
    run = platform.run_fails(platform.launch("iris/raw_data", config=config))
    assert "the init container fetch ended with exit code 7 (code failure 1 of 1 that are retried)" in run.text


def test_a_step_that_dies_tells_where_how_and_its_last_lines(platform: Platform) -> None:
    crash = "{container_config: {command: [sh, -c, 'echo the last words; exit 3']}}"
    run = platform.run_fails(platform.launch("iris/raw_data", config=override(crash)))
    assert "the process ended with exit code 3 (code failure 1 of 1 that are retried)" in run.text
    [failure] = run.events_of("ExecutionStepFailureEvent")
    entries = {entry["label"]: entry.get("text", "") for entry in failure["failureMetadata"]["metadataEntries"]}
    assert entries["pod"].startswith("dagster-step-")
    assert entries["node"] in names(objects("nodes"))
    assert entries["exit code"] == "3"
    assert "Started" in entries["events"]
    assert "the last words" in entries["last log lines"]


@pytest.mark.parametrize(
    ("model", "cause"),
    [("no_such_family", "a gpu node (1 GPU) of family p99"), ("too_many_gpus", "a gpu node (16 GPUs)")],
)
def test_a_node_that_cannot_be_had_fails_with_cause_and_remedy(platform: Platform, model: str, cause: str) -> None:
    platform.materialize(model, *INPUTS)
    before = names(gpu_claims())
    run = platform.run_fails(platform.launch(f"{model}/trained_model"))
    assert f"no node type offers {cause}" in run.text
    assert "Ask for another train.compute.gpu or instance_family" in run.text
    stays(lambda: names(gpu_claims()) <= before, QUIET_S, "no node is bought that does not help")


def pod_that_takes_gpus(count: int) -> dict[str, Any]:
    """A pod that stands in the quota and that no node can have."""
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "takes-gpus", "namespace": NAMESPACE},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "takes",
                    "image": "localhost/not-there:1",
                    "securityContext": rights,
                    "resources": {"limits": {"nvidia.com/gpu": str(count)}},
                }
            ],
        },
    }


@pytest.fixture
def quota_of_gpus() -> Iterator[Callable[[int], None]]:
    """Called with a number of GPUs it makes the namespace's quota."""

    def make(count: int) -> None:
        spec = {"hard": {"requests.nvidia.com/gpu": str(count)}}
        metadata = {"name": "gpus", "namespace": NAMESPACE}
        create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec})
        wait_until(
            lambda: kubectl("get", "resourcequota", "gpus", "-n", NAMESPACE, "-o", "jsonpath={.status.hard}"),
            SOON_S,
            "the quota is known",
        )

    yield make
    kubectl("delete", "resourcequota", "gpus", "-n", NAMESPACE)


def test_a_full_quota_is_logged_while_the_step_waits(platform: Platform, quota_of_gpus: Callable[[int], None]) -> None:
    quota_of_gpus(16)
    create(pod_that_takes_gpus(16))
    try:
        run_id = platform.launch("too_many_gpus/trained_model")
        run = platform.run_logs(run_id, "waiting for quota")
    finally:
        kubectl("delete", "pod", "takes-gpus", "-n", NAMESPACE)
    assert "raise the ResourceQuota" in run.text
    platform.terminate(run_id)
    platform.run_is_cancelled(run_id)
    platform.no_pod_is_left(run_id)
    platform.pool_is_free("gpu")


def test_a_step_that_is_larger_than_the_quota_fails_at_once(
    platform: Platform, quota_of_gpus: Callable[[int], None]
) -> None:
    quota_of_gpus(0)
    run = platform.run_fails(platform.launch("too_many_gpus/trained_model"))
    assert "asks for more requests.nvidia.com/gpu than the whole quota has" in run.text
    assert "Ask for less in the YAML's compute, or raise the ResourceQuota" in run.text
