"""The pods of steps: what they ask for, why they wait, how they died, and how their process takes SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops_assets.assets.pod_template import op_tags, worker_pods
from mlops_assets.components.model_pipeline import STAGES
from resources.kubernetes.labels import POD_POLICY
from resources.kubernetes.pod_diagnosis import death, waiting
from resources.kubernetes.pod_executor import policy_of
from tests.support import TORCH, spec

LONG_AGO = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
NOW = datetime.now(UTC).isoformat()


def config(model: Any, stage: str) -> dict[str, Any]:
    return op_tags(model, stage)["dagster-k8s/config"]


def training_pod(**compute: Any) -> dict[str, Any]:
    return config(spec(train={**TORCH, "compute": compute}), "trained_model")


def terms(pod: dict[str, Any]) -> list[dict[str, Any]]:
    affinity = pod["pod_spec_config"]["affinity"]["node_affinity"]
    [term] = affinity["required_during_scheduling_ignored_during_execution"]["node_selector_terms"]
    return term["match_expressions"]


def test_a_gpu_training_asks_for_a_gpu_node_and_time_for_its_checkpoint() -> None:
    pod = training_pod(gpu=2, cpu=4, memory="16Gi", grace="3m", instance_family="g5")
    assert pod["container_config"]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert pod["container_config"]["resources"]["requests"]["cpu"] == "4000m"
    assert pod["pod_spec_config"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["gpu"]} in terms(pod)
    assert {"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["g5"]} in terms(pod)
    assert pod["pod_spec_config"]["termination_grace_period_seconds"] == 180
    assert pod["pod_template_spec_metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert "node_selector" not in pod["pod_spec_config"]


def test_without_spot_only_on_demand_nodes_are_taken() -> None:
    assert training_pod(gpu=1, spot=False)["pod_spec_config"]["node_selector"] == {
        "karpenter.sh/capacity-type": "on-demand"
    }


@pytest.mark.parametrize("stage", ["raw_data", "prepared_data", "features", "evaluation", "registered_model"])
def test_other_stages_stay_off_gpu_nodes_and_have_no_rights(stage: str) -> None:
    pod = config(spec(train={**TORCH, "compute": {"gpu": 1}}, compute={"memory": "3Gi"}), stage)
    assert {"key": "karpenter.sh/nodepool", "operator": "NotIn", "values": ["gpu"]} in terms(pod)
    assert "nvidia.com/gpu" not in pod["container_config"]["resources"]["limits"]
    assert pod["container_config"]["resources"]["limits"]["memory"] == "3Gi"
    assert pod["pod_spec_config"]["service_account_name"] == "dagster-step"


def test_only_the_deployment_may_talk_to_kubernetes() -> None:
    assert config(spec(), "deployment")["pod_spec_config"]["service_account_name"] == "dagster-deployer"


def test_a_step_with_several_workers_only_watches_and_outlives_their_grace() -> None:
    model = spec(train={**TORCH, "compute": {"workers": 3, "gpu": 2, "grace": "3m", "retries": {"infrastructure": 7}}})
    step = config(model, "trained_model")
    assert "nvidia.com/gpu" not in step["container_config"]["resources"]["limits"]
    assert {"key": "karpenter.sh/nodepool", "operator": "NotIn", "values": ["gpu"]} in terms(step)
    assert step["pod_spec_config"]["service_account_name"] == "dagster-trainer"
    assert step["pod_spec_config"]["termination_grace_period_seconds"] > 180
    assert op_tags(model, "trained_model")[POD_POLICY]["retries"]["infrastructure"] == 7

    workers = worker_pods(model)
    assert (workers.count, workers.processes, workers.grace_s) == (3, 2, 180)
    assert workers.container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert workers.pod["automount_service_account_token"] is False
    assert workers.needs == "a gpu node (2 GPUs)"


def test_the_config_stands_on_every_asset_where_all_ways_to_start_find_it() -> None:
    model = spec(train={**TORCH, "compute": {"gpu": 1, "start_within": "5m", "retries": {"infrastructure": 7}}})
    for stage in STAGES:
        asset = stage(model)
        tags = asset.op.tags
        name = asset.key.path[-1]
        assert json.loads(tags["dagster-k8s/config"]) == config(model, name)
        assert asset.op.pool == ("gpu" if name == "trained_model" else None)
    tags = {name: json.dumps(value) for name, value in op_tags(model, "trained_model").items()}
    policy = policy_of(tags)
    assert (policy.start_within.total_seconds(), policy.retries.infrastructure, policy.retries.code) == (300, 7, 1)


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


STEP = """
import signal, sys, time
from mlops_assets.assets.trained_model import stop_signal
signal.signal(signal.SIGTERM, lambda *_: print("Dagster heard it", flush=True))
if sys.argv[1] == "training":
    with stop_signal() as asked:
        print("ready", flush=True)
        while not asked():
            time.sleep(0.01)
        print("checkpoint", flush=True)
else:
    print("ready", flush=True)
    time.sleep(60)
print("went on", flush=True)
"""


@pytest.mark.parametrize(("kind", "last"), [("training", "ready\ncheckpoint\n"), ("any other", "ready\n")])
def test_a_step_that_is_told_to_go_writes_its_checkpoint_and_says_nothing_to_dagster(kind: str, last: str) -> None:
    command = [sys.executable, "-m", "resources.kubernetes.step_pod", sys.executable, "-c", STEP, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        said += process.stdout.read()
    assert (process.returncode, said) == (143, last)


@pytest.mark.parametrize(("code", "exits"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_step_pod_ends_as_its_process_did(code: str, exits: int) -> None:
    command = [sys.executable, "-m", "resources.kubernetes.step_pod", sys.executable, "-c", code]
    assert subprocess.run(command, check=False).returncode == exits
