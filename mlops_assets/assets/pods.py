"""The pod of each stage on Kubernetes, from the YAML's compute. It stands on the asset: every way to start has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlops_assets.pipeline.spec import TrainingCompute

if TYPE_CHECKING:
    from mlops_assets.pipeline.spec import ModelSpec

POLICY = "mlops.dev/pod"
GPU = "nvidia.com/gpu"
NODEPOOL = "karpenter.sh/nodepool"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
ACCOUNTS = {"deployment": "dagster-deployer"}
GRACE_S = 30


def op_tags(spec: ModelSpec, stage: str) -> dict[str, Any]:
    """`dagster-k8s/config` of the step's pod, and what our executor must know about its retries."""
    compute = spec.train.compute if stage == "trained_model" else spec.compute
    pod: dict[str, Any] = {"service_account_name": ACCOUNTS.get(stage, "dagster-step")}
    # Dagster's run launcher, which every step makes, wants a token, also one without any rights
    pod["automount_service_account_token"] = True
    container: dict[str, Any] = {"resources": _resources(compute.cpu, compute.memory, compute.ephemeral_storage, 0)}
    policy: dict[str, Any] = {
        "start_within_s": compute.start_within.total_seconds(),
        "infrastructure": compute.retries.infrastructure,
        "code": compute.retries.code,
        "needs": "a cpu node",
    }
    terms = [{"key": NODEPOOL, "operator": "NotIn", "values": ["gpu"]}]
    pod["termination_grace_period_seconds"] = GRACE_S
    if isinstance(compute, TrainingCompute):
        gpus = compute.gpu
        container["resources"] = _resources(compute.cpu, compute.memory, compute.ephemeral_storage, gpus)
        container["volume_mounts"] = [{"name": "shared-memory", "mount_path": "/dev/shm"}]  # noqa: S108
        pod["volumes"] = [
            {"name": "shared-memory", "empty_dir": {"medium": "Memory", "size_limit": compute.shared_memory}}
        ]
        pod["termination_grace_period_seconds"] = int(compute.grace.total_seconds())
        if gpus:
            pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
            terms = [{"key": NODEPOOL, "operator": "In", "values": ["gpu"]}]
            policy["needs"] = f"a gpu node ({gpus} GPU{'s' if gpus > 1 else ''})"
        if compute.instance_family:
            family = {"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": [compute.instance_family]}
            terms.append(family)
            policy["needs"] += f" of family {compute.instance_family}"
        if not compute.spot:
            pod["node_selector"] = {CAPACITY_TYPE: "on-demand"}
    required = {"node_selector_terms": [{"match_expressions": terms}]}
    pod["affinity"] = {"node_affinity": {"required_during_scheduling_ignored_during_execution": required}}
    config = {
        "container_config": container,
        "pod_spec_config": pod,
        "pod_template_spec_metadata": {
            "annotations": {"karpenter.sh/do-not-disrupt": "true"},
            "labels": labels(spec, stage),
        },
    }
    return {"dagster-k8s/config": config, POLICY: policy}


def labels(spec: ModelSpec, stage: str) -> dict[str, str]:
    """Labels by which costs are counted."""
    owner = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.owners[0]).strip("-._")[:63] if spec.owners else "nobody"
    return {"mlops.dev/model": spec.model, "mlops.dev/stage": stage, "mlops.dev/owner": owner}


def _resources(cpu: float, memory: str, ephemeral_storage: str, gpus: int) -> dict[str, dict[str, str]]:
    requests = {"cpu": f"{round(cpu * 1000)}m", "memory": memory, "ephemeral-storage": ephemeral_storage}
    # No limit on cores: a throttled step only holds its node longer
    limits = {"memory": memory, "ephemeral-storage": ephemeral_storage}
    if gpus:
        limits[GPU] = str(gpus)
    return {"requests": requests, "limits": limits}
