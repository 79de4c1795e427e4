"""The pod of a predictor, as every serving target of a cluster has it, and what keeps it up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

from mlops_assets.serving.declaration import CANDIDATE
from resources.kubernetes.labels import (
    ARTIFACT,
    EXPLAIN,
    GPU,
    LOG_POLICY,
    POOL,
    SERVICE,
    SHA256,
    SPEC_SHA256,
    VERSION,
)
from resources.serving.service_settings import USUAL, ServiceSettings, ServingResources
from resources.serving.serving_pod import DRAIN_S, GRPC, HTTP, mebibytes, serving_pod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_assets.serving.declaration import ServedVersion

# KServe labels the pods of a candidate with all of this, and a label has 63 characters
LONGEST = 63 - len("isvc.-predictor") - len(CANDIDATE)
DIGEST = 8
SERVE = [
    *("--models", "/tmp/models", "--host", "0.0.0.0"),  # noqa: S104, S108
    *("--port", str(HTTP), "--grpc-port", str(GRPC), "--drain", str(DRAIN_S)),
]


class KindOfService(NamedTuple):
    """What an operator makes of its objects."""

    api_version: str
    kind: str
    plural: str
    of_service: str
    """The label of a service's pods that has its name."""
    deployment: Callable[[str], str]
    """The Deployment of a service."""


class PodSettings(TypedDict):
    """What `predictor_pod` is given by name, whatever the operator."""

    size: int
    prefix: NotRequired[str]
    max_body_mib: NotRequired[int]
    max_rows: NotRequired[int]
    lake_uri: NotRequired[str]
    is_candidate: NotRequired[bool]


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
    """What a model's service is called, and no other's; Kubernetes' names have no underscores, and are short.

    >>> service_name("flight_delay"), service_name("ann--flight_delay_of_all_airlines_in_the_world")
    ('flight-delay', 'ann--flight-delay-of-all-air--33156575')
    """
    name = model.replace("_", "-")
    if len(name) <= LONGEST:
        return name
    # No other name has two hyphens after so many characters, which no space has, nor has it them twice
    digest = hashlib.sha256(model.encode()).hexdigest()[:DIGEST]
    return f"{name[: LONGEST - DIGEST - 2].rstrip('-')}--{digest}"


def predictor_pod(
    container: str,
    http_port: str,
    selector: Mapping[str, str],
    model: str,
    version: ServedVersion,
    uri: str,
    image: str,
    resources: ServingResources,
    *,
    size: int,
    prefix: str = "",
    max_body_mib: int = 8,
    max_rows: int = 100_000,
    lake_uri: str = "",
    is_candidate: bool = False,
) -> dict[str, Any]:
    """The specification of a pod that serves the artifact at `uri`, s3://bucket/prefix.

    `container` and `http_port` are the names that the operator looks for, and `selector` the labels that the pods of
    one service have, each of which is in another zone where it can be. `size` are the artifact's bytes, by which it has
    memory where `resources` do not say how much. `prefix` is that of the cluster's priority classes. In the lake at
    `lake_uri` it finds how requests are shared with a candidate, unless it is that itself, and writes the inference
    log.
    """
    arguments = ["--fetch", uri, "--model", model, "--model-version", version.version, "--sha256", version.sha256]
    arguments += ["--lake-uri", lake_uri]
    if version.log:
        arguments += ["--log-policy", version.log.model_dump_json()]
    if version.explain:
        arguments.append("--explain")
    if is_candidate:
        arguments.append("--candidates")
    # JSON of nothing but brackets takes 32 times its bytes, and two large bodies are parsed at a time
    needed = mebibytes(512, 2 * size), mebibytes(512, 4 * size + (max_body_mib << 26))
    requested, limit = (resources.memory, resources.memory) if resources.memory else needed
    limits = {"memory": limit}
    on_gpu = dict[str, Any]()
    if resources.gpu:
        arguments.append("--gpu")
        limits[GPU] = str(resources.gpu)
        on_gpu = {
            "nodeSelector": {POOL: "gpu"},
            "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
        }
    answering = {
        "name": container,
        "image": image,
        "args": [*SERVE, *arguments, "--max-body-mib", str(max_body_mib), "--max-rows", str(max_rows)],
        "envFrom": [
            {"configMapRef": {"name": "mlops-environment"}},
            {"secretRef": {"name": "lake-credentials", "optional": True}},
            {"secretRef": {"name": "inference-log", "optional": True}},
        ],
        "ports": [
            {"name": http_port, "containerPort": HTTP, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC, "protocol": "TCP"},
        ],
        # Ready means that this version answers its golden rows as in training, and has done so a moment ago
        "readinessProbe": {
            "httpGet": {"path": f"/v2/models/{model}/versions/{version.version}/ready", "port": HTTP},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
        },
        "resources": {
            "requests": {"cpu": f"{round(resources.cpu * 1000)}m", "memory": requested},
            "limits": limits,
        },
    }
    return on_gpu | serving_pod("predictor", selector, answering, prefix=prefix)


def version_annotations(
    version: ServedVersion, uri: str, spec: Mapping[str, Any], service: ServiceSettings
) -> dict[str, str]:
    """What an object says of the version that it serves, how it is laid out, and of its own specification, by which
    pods are known.
    """
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    about = {VERSION: version.version, SHA256: version.sha256, ARTIFACT: uri, SPEC_SHA256: digest}
    about |= {SERVICE: service.model_dump_json(exclude_defaults=True)} if service != USUAL else {}
    about |= {LOG_POLICY: version.log.model_dump_json()} if version.log else {}
    return about | ({EXPLAIN: "true"} if version.explain else {})


def owner_reference(kind: KindOfService, service: Mapping[str, Any]) -> dict[str, Any]:
    """By this an object goes with a service's object, which is there."""
    metadata = service["metadata"]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "name": metadata["name"], "uid": metadata["uid"]}


def disruption_budget(kind: KindOfService, service: Mapping[str, Any]) -> dict[str, Any]:
    """Of a service's pods, a drained node takes one at a time; it goes with the service's object, which is there."""
    name, owner = service["metadata"]["name"], owner_reference(kind, service)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": service["metadata"]["labels"], "ownerReferences": [owner]},
        # A pod that is not ready protects nothing, and would keep its node for ever
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {kind.of_service: name}},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
