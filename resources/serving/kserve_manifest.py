"""The InferenceService of a model's version, as a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resources.kubernetes.labels import MODEL, STAGE
from resources.serving.predictor_pod import KindOfService, predictor_pod, version_annotations

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
    size: int,
    replicas: int,
    prefix: str = "",
    max_body_mib: int = 8,
    max_rows: int = 100_000,
    lake_uri: str = "",
    is_candidate: bool = False,
) -> dict[str, Any]:
    """The InferenceService `name` that serves the artifact at `uri`, s3://bucket/prefix, in KServe's Standard mode.

    `size` are the artifact's bytes, by which it has memory; of the `replicas` each is in another zone where it can be.
    `prefix` is that of the cluster's priority classes. In the lake at `lake_uri` it finds how requests are shared with
    a candidate, unless it is that itself, and writes the inference log.
    """
    pod = predictor_pod(
        "kserve-container",
        "http1",  # KServe's Service has the first port as 80, and each further one under its own number
        {KSERVE.of_service: name},
        model,
        version,
        uri,
        image,
        size=size,
        prefix=prefix,
        max_body_mib=max_body_mib,
        max_rows=max_rows,
        lake_uri=lake_uri,
        is_candidate=is_candidate,
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
