"""What all pods that serve a model have: restricted, drained before they end, in different zones where they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resources.kubernetes.labels import PRIORITY_OF_SERVING

if TYPE_CHECKING:
    from collections.abc import Mapping

RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
HTTP, GRPC = 8080, 8081
STEP_MIB = 256
GRACE_S = 60  # to drain, to end what is being answered, and to store the inference log
START_S = 600  # to fetch a model and to load it, before the pod is taken for one that hangs
ALIVE: dict[str, Any] = {"httpGet": {"path": "/v2/health/live", "port": HTTP}, "timeoutSeconds": 5}
DRAIN_S = 5  # for as long a node may still send requests to a pod that is about to stop


def serving_pod(
    account: str,
    selector: Mapping[str, str],
    container: dict[str, Any],
    *,
    prefix: str,
    mounts: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The specification of a pod whose container answers at port HTTP, with what it has beside `container`.

    `selector` are the labels of the pods that are to be spread, `prefix` that of the cluster's priority classes, and
    `mounts` volumes by the folder where they are found.
    """
    volumes = {"/tmp": {"name": "scratch", "emptyDir": {}}, **(mounts or {})}  # noqa: S108
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "priorityClassName": prefix + PRIORITY_OF_SERVING,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                **container,
                "imagePullPolicy": "IfNotPresent",
                # What fetches a large model, or starts on a busy node, is not ended half-way
                "startupProbe": {**ALIVE, "periodSeconds": 1, "failureThreshold": START_S},
                "livenessProbe": {**ALIVE, "periodSeconds": 10},
                "securityContext": RESTRICTED,
                "volumeMounts": [{"name": volume["name"], "mountPath": path} for path, volume in volumes.items()],
                # Its last lines stay in the pod's status when its log has gone
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        "volumes": [*volumes.values()],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": dict(selector)},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
    }


def mebibytes(base: int, more: int) -> str:
    """Memory as Kubernetes writes it, in steps, so that a model of a few bytes more has the same."""
    return f"{base + STEP_MIB * (more // (STEP_MIB << 20))}Mi"
