"""The pod of each stage on Kubernetes, from the YAML's compute. It stands on the asset: every way to start has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.class_source import needs_torch
from resources.kubernetes import labels
from resources.kubernetes.compute import PodPolicy
from resources.kubernetes.training_manifest import WorkerPods

if TYPE_CHECKING:
    from mlops_assets.spec.model_spec import ModelSpec
    from resources.kubernetes.compute import Compute, Image, TrainingCompute

ACCOUNTS = {"deployment": "dagster-deployer"}
GRACE_S = 30
# A deployment that is interrupted leaves a roll-out half done, until it is tried again
NOT_ON_SPOT = {"deployment"}


def op_tags(spec: ModelSpec, stage: str) -> dict[str, Any]:
    """`dagster-k8s/config` of the step's pod, and what our executor must know about its retries."""
    training = spec.train.compute if stage == "trained_model" else None
    account, compute = ACCOUNTS.get(stage, "dagster-step"), training or spec.compute
    if training is None:
        container, pod, needs = _cpu_pod(spec.compute, GRACE_S, spot=stage not in NOT_ON_SPOT)
    elif training.workers == 1:
        container, pod, needs = _training_pod(training)
    else:
        # It only watches; its workers get the time to write a checkpoint, and it waits for that. They end when it does.
        account = "dagster-trainer"
        container, pod, needs = _cpu_pod(spec.compute, int(training.grace.total_seconds()) + GRACE_S, spot=False)
    # Dagster's run launcher, which every step makes, wants a token, also one without any rights
    pod |= {"service_account_name": account, "automount_service_account_token": True}
    config = {
        "container_config": container,
        "pod_spec_config": pod,
        "pod_template_spec_metadata": {
            "annotations": labels.DO_NOT_DISRUPT,
            "labels": cost_labels(spec, stage),
        },
    }
    policy = PodPolicy(
        start_within=compute.start_within, retries=compute.retries, needs=needs, image=image_of(spec, stage)
    )
    return {"dagster-k8s/config": config, labels.POD_POLICY: policy.model_dump(mode="json")}


def image_of(spec: ModelSpec, stage: str) -> Image:
    """The image of a stage's pod, which is that of its workers too.

    The trainer's has torch and CUDA, and takes long to pull: only a training that needs one of them gets it.
    """
    needs_trainer = stage == "trained_model" and (spec.train.compute.gpu or needs_torch(spec.train.classes))
    return "trainer" if needs_trainer else "platform"


def worker_pods(spec: ModelSpec) -> WorkerPods:
    """The pods of a training by several."""
    compute = spec.train.compute
    container, pod, needs = _training_pod(compute)
    pod |= {"service_account_name": "dagster-step", "automount_service_account_token": False}
    return WorkerPods(
        count=compute.workers,
        processes=max(1, compute.gpu),
        container=container,
        pod=pod,
        needs=needs,
        start_within_s=compute.start_within.total_seconds(),
        grace_s=compute.grace.total_seconds(),
    )


def _cpu_pod(compute: Compute, grace_s: int, *, spot: bool) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Container, pod and what it needs, for a step that needs no GPU."""
    resources = _resources(compute.cpu, compute.memory, compute.ephemeral_storage, 0)
    pod: dict[str, Any] = {"affinity": _affinity([_pool("cpu")]), "termination_grace_period_seconds": grace_s}
    if spot:
        pod["tolerations"] = [_tolerates(labels.SPOT_TAINT)]
    return {"resources": resources}, pod, "a cpu node"


def _training_pod(compute: TrainingCompute) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Container, pod and what it needs, for a pod that trains."""
    gpus = compute.gpu
    container = {
        "resources": _resources(compute.cpu, compute.memory, compute.ephemeral_storage, gpus),
        "volume_mounts": [{"name": "shared-memory", "mount_path": "/dev/shm"}],  # noqa: S108
    }
    memory = {"medium": "Memory", "size_limit": compute.shared_memory}
    pod: dict[str, Any] = {
        "volumes": [{"name": "shared-memory", "empty_dir": memory}],
        "termination_grace_period_seconds": int(compute.grace.total_seconds()),
    }
    needs = f"a gpu node ({gpus} GPU{'s' if gpus > 1 else ''})" if gpus else "a cpu node"
    terms = [_pool("gpu" if gpus else "cpu")]
    if gpus:
        pod["tolerations"] = [_tolerates(labels.GPU)]
    elif compute.spot:
        pod["tolerations"] = [_tolerates(labels.SPOT_TAINT)]
    if compute.instance_family:
        family = {"key": labels.INSTANCE_FAMILY, "operator": "In", "values": [compute.instance_family]}
        terms.append(family)
        needs += f" of family {compute.instance_family}"
    if not compute.spot:
        # On demand, or reserved
        terms.append({"key": labels.CAPACITY_TYPE, "operator": "NotIn", "values": ["spot"]})
    return container, pod | {"affinity": _affinity(terms)}, needs


def _pool(name: str) -> dict[str, Any]:
    """By a label of our own: any number of NodePools may have it."""
    return {"key": labels.POOL, "operator": "In", "values": [name]}


def _tolerates(taint: str) -> dict[str, Any]:
    return {"key": taint, "operator": "Exists", "effect": "NoSchedule"}


def _affinity(terms: list[dict[str, Any]]) -> dict[str, Any]:
    required = {"node_selector_terms": [{"match_expressions": terms}]}
    return {"node_affinity": {"required_during_scheduling_ignored_during_execution": required}}


def cost_labels(spec: ModelSpec, stage: str) -> dict[str, str]:
    """Labels by which costs are counted."""
    owner = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.owners[0])[:63].strip("-._") if spec.owners else "nobody"
    return {labels.MODEL: spec.model, labels.STAGE: stage, labels.OWNER: owner}


def _resources(cpu: float, memory: str, ephemeral_storage: str, gpus: int) -> dict[str, dict[str, str]]:
    requests = {"cpu": f"{round(cpu * 1000)}m", "memory": memory, "ephemeral-storage": ephemeral_storage}
    # No limit on cores: a throttled step only holds its node longer
    limits = {"memory": memory, "ephemeral-storage": ephemeral_storage}
    if gpus:
        limits[labels.GPU] = str(gpus)
    return {"requests": requests, "limits": limits}
