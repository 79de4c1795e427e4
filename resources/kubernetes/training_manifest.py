"""The PyTorchJob of a training by several pods: the step's own pod, and what the YAML asks for its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_assets.ml.values import Value
from resources.kubernetes.labels import COMPONENT, DO_NOT_DISRUPT, OP, RUN_ID, ZONE
from resources.kubernetes.queueing import QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

# The labels that pods and PyTorchJobs of other steps do not have together
OF_ONE_STEP = (RUN_ID, OP, COMPONENT)
# What admission gave this pod for its own service account
IDENTITY = (
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)


class WorkerPods(Value):
    """The pods of a training by several; container and pod as dagster-k8s's config has them."""

    count: int
    processes: int
    container: dict[str, Any]
    pod: dict[str, Any]
    needs: str
    start_within_s: float
    grace_s: float


def training_job(
    name: str,
    labels: Mapping[str, str],
    me: Mapping[str, Any],
    workers: WorkerPods,
    queue: str | None,
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """The manifest, owned by the step's pod `me`. With a queue it has no pod before there is room for all of them."""
    owner = {key: me["metadata"][key] for key in ("name", "uid")} | {"apiVersion": "v1", "kind": "Pod"}
    pod = _pod(me["spec"], workers, variables)
    pod["affinity"] |= _in_one_zone(labels)
    template = {"metadata": {"labels": labels, "annotations": DO_NOT_DISRUPT}, "spec": pod}
    replica = {"restartPolicy": "Never", "template": template}
    replicas = {"Master": {"replicas": 1, **replica}, "Worker": {"replicas": workers.count - 1, **replica}}
    queued = {QUEUE: queue} if queue else {}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": name, "labels": {**labels, **queued}, "ownerReferences": [owner]},
        "spec": {
            "nprocPerNode": str(workers.processes),
            # What ended a worker is read from its pod; who retries is Dagster's executor
            "runPolicy": {"cleanPodPolicy": "None", "backoffLimit": 0},
            "pytorchReplicaSpecs": replicas,
        },
    }


def _pod(spec: Mapping[str, Any], workers: WorkerPods, variables: Mapping[str, str]) -> dict[str, Any]:
    """The step's own pod without what makes it Dagster's, with what the YAML asks for its workers."""
    from dagster_k8s.models import k8s_model_from_dict
    from kubernetes import client as untyped

    client: Any = untyped
    mine: dict[str, Any] = spec["containers"][0]
    tokens = {volume["name"] for volume in spec["volumes"] if _is_token(volume)}
    names = {**workers.pod, "containers": [{"name": "pytorch", **workers.container}]}
    wanted: dict[str, Any] = client.ApiClient().sanitize_for_serialization(k8s_model_from_dict(client.V1PodSpec, names))
    [container] = wanted["containers"]
    variable_list = [
        variable
        for variable in mine.get("env", [])
        if variable["name"] not in IDENTITY and not variable["name"].startswith("DAGSTER_")
    ] + [{"name": name, "value": value} for name, value in variables.items()]
    kept = ("image", "imagePullPolicy", "envFrom", "securityContext", "workingDir")
    container |= {key: mine[key] for key in kept if key in mine}
    container["command"] = ["python", "-m", "resources.kubernetes.training_worker"]
    container["env"] = variable_list
    mounts = [mount for mount in mine["volumeMounts"] if mount["name"] not in tokens]
    container["volumeMounts"] = [*mounts, *container.get("volumeMounts", [])]
    kept = ("imagePullSecrets", "securityContext", "priorityClassName", "enableServiceLinks")
    wanted |= {key: spec[key] for key in kept if key in spec}
    volumes = [volume for volume in spec["volumes"] if volume["name"] not in tokens]
    wanted["volumes"] = [*volumes, *wanted.get("volumes", [])]
    # The executor sends the last try after interruptions to on-demand nodes
    wanted["nodeSelector"] = {**wanted.get("nodeSelector", {}), **spec.get("nodeSelector", {})}
    return wanted


def _in_one_zone(labels: Mapping[str, str]) -> dict[str, Any]:
    """All workers come to the zone of the first: gradients between zones are slow and paid for.

    It is Karpenter, which makes the nodes, that has to know; Kueue's topologies count nodes that are there already.
    """
    selector = {"matchLabels": {key: labels[key] for key in OF_ONE_STEP}}
    term = {"topologyKey": ZONE, "labelSelector": selector}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _is_token(volume: dict[str, Any]) -> bool:
    return any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
