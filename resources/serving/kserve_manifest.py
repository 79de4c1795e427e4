"""The InferenceService of a model's version, as a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from resources.kubernetes.labels import MODEL, STAGE
from resources.serving.predictor_pod import KindOfService, PodSettings, predictor_pod, version_annotations

if TYPE_CHECKING:
    from mlops_assets.serving.declaration import ServedVersion

KSERVE = KindOfService(
    api_version="serving.kserve.io/v1beta1",
    kind="InferenceService",
    plural="inferenceservices",
    of_service="serving.kserve.io/inferenceservice",
    deployment=lambda name: f"{name}-predictor",
)


def inference_service(
    name: str,
    model: str,
    version: ServedVersion,
    uri: str,
    image: str,
    *,
    replicas: int,
    **settings: Unpack[PodSettings],
) -> dict[str, Any]:
    """The InferenceService `name` that serves the artifact at `uri`, s3://bucket/prefix, in KServe's Standard mode.

    `settings` are those of `predictor_pod`. Of the `replicas` each is in another zone where it can be.
    """
    pod = predictor_pod(
        "kserve-container",
        "http1",  # KServe's Service has the first port as 80, and each further one under its own number
        {KSERVE.of_service: name},
        model,
        version,
        uri,
        image,
        **settings,
    )
    predictor = pod | {
        "minReplicas": replicas,
        "maxReplicas": 3 * replicas,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "labels": {MODEL: model, STAGE: "serving"},
    }
    spec = {"predictor": predictor}
    # KServe gives its Deployment and the pods these, which tells when they are those of this specification
    annotations = {"serving.kserve.io/deploymentMode": "Standard", **version_annotations(version, uri, spec)}
    return {
        "apiVersion": KSERVE.api_version,
        "kind": KSERVE.kind,
        "metadata": {"name": name, "annotations": annotations, "labels": {MODEL: model}},
        "spec": spec,
    }
