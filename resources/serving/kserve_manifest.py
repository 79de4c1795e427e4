"""The InferenceService of a model's version, as a manifest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from mlops_assets.serving.declaration import CANDIDATE
from resources.kubernetes.labels import ARTIFACT, MODEL, PRIORITY_OF_SERVING, SHA256, SPEC_SHA256, STAGE, VERSION

if TYPE_CHECKING:
    from mlops_assets.serving.declaration import ServedVersion

API_VERSION = "serving.kserve.io/v1beta1"
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


# KServe's label of a predictor's pods
OF_SERVICE = "serving.kserve.io/inferenceservice"
# KServe labels the pods of a candidate with all of this, and a label has 63 characters
LONGEST = 63 - len("isvc.-predictor") - len(CANDIDATE)
DIGEST = 8
STEP_MIB = 256
HTTP, GRPC = 8080, 8081
GRACE_S = 60  # to drain, to end what is being answered, and to store the inference log
DRAIN_S = 5  # for as long a node may still send requests to a pod that is about to stop
SERVE = [
    *("--models", "/tmp/models", "--host", "0.0.0.0"),  # noqa: S104, S108
    *("--port", str(HTTP), "--grpc-port", str(GRPC), "--drain", str(DRAIN_S)),
]


def _mebibytes(base: int, more: int) -> str:
    """Memory as Kubernetes writes it, in steps, so that a model of a few bytes more has the same."""
    return f"{base + STEP_MIB * (more // (STEP_MIB << 20))}Mi"


def disruption_budget(service: dict[str, Any]) -> dict[str, Any]:
    """Of a service's pods, a drained node takes one at a time; it goes with the InferenceService, which is there."""
    name = service["metadata"]["name"]
    owner = {"apiVersion": API_VERSION, "kind": "InferenceService", "name": name, "uid": service["metadata"]["uid"]}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": service["metadata"]["labels"], "ownerReferences": [owner]},
        # A pod that is not ready protects nothing, and would keep its node for ever
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {OF_SERVICE: name}},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def covers(present: Any, wanted: Any) -> bool:
    """Whether an object is as wanted, beside what admission has added to it.

    >>> covers({"a": 1, "b": [{"c": 2, "default": 3}]}, {"b": [{"c": 2}]}), covers({"b": [1, 2]}, {"b": [1]})
    (True, False)
    """
    if isinstance(wanted, dict) and isinstance(present, dict):
        return all(key in present and covers(present[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(present, list):
        return len(present) == len(wanted) and all(map(covers, present, wanted))
    return present == wanted


def service_name(model: str) -> str:
    """The InferenceService of a model, and of no other; Kubernetes' names have no underscores, and are short.

    >>> service_name("flight_delay"), service_name("ann--flight_delay_of_all_airlines_in_the_world")
    ('flight-delay', 'ann--flight-delay-of-all-air--33156575')
    """
    name = model.replace("_", "-")
    if len(name) <= LONGEST:
        return name
    # No other name has two hyphens after so many characters, which no space has, nor has it them twice
    digest = hashlib.sha256(model.encode()).hexdigest()[:DIGEST]
    return f"{name[: LONGEST - DIGEST - 2].rstrip('-')}--{digest}"


def inference_service(
    name: str,
    model: str,
    version: ServedVersion,
    uri: str,
    image: str,
    *,
    size: int,
    replicas: int,
    prefix: str = "",
    max_body_mib: int = 8,
    max_rows: int = 100_000,
    lake_uri: str = "",
) -> dict[str, Any]:
    """The InferenceService `name` that serves the artifact at `uri`, s3://bucket/prefix, in KServe's Standard mode.

    `size` are the artifact's bytes, by which it has memory; of the `replicas` each is in another zone where it can be.
    `prefix` is that of the cluster's priority classes. Into the lake at `lake_uri` it writes the inference log.
    """
    arguments = ["--fetch", uri, "--model", model, "--model-version", version.version, "--sha256", version.sha256]
    if version.log:
        arguments += ["--log-uri", lake_uri, "--log-policy", version.log.model_dump_json()]
    container = {
        "name": "kserve-container",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [*SERVE, *arguments, "--max-body-mib", str(max_body_mib), "--max-rows", str(max_rows)],
        "envFrom": [
            {"configMapRef": {"name": "mlops-environment"}},
            {"secretRef": {"name": "lake-credentials", "optional": True}},
            {"secretRef": {"name": "inference-log", "optional": True}},
        ],
        # KServe's Service has the first as port 80, and each further one under its own number
        "ports": [
            {"name": "http1", "containerPort": HTTP, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC, "protocol": "TCP"},
        ],
        # Ready means that the golden rows were answered as in training
        "readinessProbe": {
            "httpGet": {"path": f"/v2/models/{model}/ready", "port": HTTP},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
        },
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": HTTP},
            "initialDelaySeconds": 60,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        "resources": {
            "requests": {"cpu": "200m", "memory": _mebibytes(512, 2 * size)},
            # JSON of nothing but brackets takes 32 times its bytes, and two large bodies are parsed at a time
            "limits": {"memory": _mebibytes(512, 4 * size + (max_body_mib << 26))},
        },
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108
    }
    predictor = {
        "minReplicas": replicas,
        "maxReplicas": 3 * replicas,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "serviceAccountName": "predictor",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "priorityClassName": prefix + PRIORITY_OF_SERVING,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "labels": {MODEL: model, STAGE: "serving"},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {OF_SERVICE: name}},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
    }
    spec = {"predictor": predictor}
    # KServe gives its Deployment and the pods these, which tells when they are those of this specification
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        VERSION: version.version,
        SHA256: version.sha256,
        ARTIFACT: uri,
        SPEC_SHA256: hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest(),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations, "labels": {MODEL: model}},
        "spec": spec,
    }
