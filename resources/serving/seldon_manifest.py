"""The SeldonDeployment of a model's version, as a manifest for Seldon Core 1.17.

Its graph is one node, our predictor, without Seldon's executor before it: that one has no security context, so that the
Pod Security Standard `restricted` refuses its pods, and the predictor speaks protocol v2 itself. What the operator's
webhook adds to a container by name stands here already, so that an object that is there compares as equal.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Unpack

from resources.kubernetes.labels import MODEL, SPEC_SHA256, STAGE
from resources.serving.predictor_pod import HTTP, KindOfService, PodSettings, predictor_pod, version_annotations
from resources.serving.service_settings import USUAL, ServiceSettings

if TYPE_CHECKING:
    from mlops_assets.serving.declaration import ServedVersion

PREDICTOR, NODE = "default", "predictor"
LONGEST = 63
UNUSED = 6000  # the port `metrics` as the webhook adds it; a container cannot have the number of `http` twice
POD_INFORMATION = "seldon-podinfo"


def seldon_name(name: str) -> str:
    """What the operator calls something that would be called `name`.

    >>> seldon_name("iris-default"), seldon_name("a" * 64)
    ('iris-default', 'seldon-014842d480b571495a4a0363793f7367')
    """
    return name if len(name) <= LONGEST else f"seldon-{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()}"


SELDON = KindOfService(
    api_version="machinelearning.seldon.io/v1",
    kind="SeldonDeployment",
    plural="seldondeployments",
    of_service="seldon-deployment-id",
    deployment=lambda name: seldon_name(f"{name}-{PREDICTOR}-0-{NODE}"),
)


def predictor_service(name: str) -> str:
    """The Service of a SeldonDeployment's predictor; its ports are those of the pods."""
    return seldon_name(f"{name}-{PREDICTOR}")


def seldon_deployment(
    name: str,
    model: str,
    version: ServedVersion,
    uri: str,
    image: str,
    *,
    replicas: int,
    service: ServiceSettings = USUAL,
    **settings: Unpack[PodSettings],
) -> dict[str, Any]:
    """The SeldonDeployment `name`; what it is given is what `inference_service` is."""
    scale = service.scale
    least, most = scale.replicas(replicas)
    pod = predictor_pod(
        NODE,
        "http",
        {SELDON.of_service: name},
        model,
        version,
        uri,
        image,
        service.resources,
        **settings,
    )
    [container] = pod["containers"]
    container["ports"].append({"name": "metrics", "containerPort": UNUSED, "protocol": "TCP"})
    container["volumeMounts"].append({"name": POD_INFORMATION, "mountPath": "/etc/podinfo"})
    annotations = {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}
    pod["volumes"].append({"name": POD_INFORMATION, "downwardAPI": {"items": [annotations]}})
    load = {"name": scale.metric, "target": {"type": "Utilization", "averageUtilization": scale.threshold}}
    predictor: dict[str, Any] = {
        "name": PREDICTOR,
        "annotations": {
            "seldon.io/no-engine": "true",
            "prometheus.io/path": "/metrics",
            "prometheus.io/port": str(HTTP),
        },
        "labels": {MODEL: model, STAGE: "serving"},
        "graph": {"name": NODE, "type": "MODEL"},
        "componentSpecs": [
            {
                "spec": pod,
                "hpaSpec": {
                    "minReplicas": least,
                    "maxReplicas": most,
                    # Not `metrics`: that is of an API which Kubernetes has had no more since 1.25
                    "metricsv2": [{"type": "Resource", "resource": load}],
                },
            }
        ],
    }
    about = version_annotations(version, uri, predictor, service)
    # The operator gives its Deployment and the pods a predictor's annotations
    predictor["annotations"][SPEC_SHA256] = about[SPEC_SHA256]
    return {
        "apiVersion": SELDON.api_version,
        "kind": SELDON.kind,
        "metadata": {"name": name, "annotations": about, "labels": {MODEL: model}},
        "spec": {"protocol": "v2", "predictors": [predictor]},
    }
