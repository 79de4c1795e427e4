"""The InferenceService of a model's version, as a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from resources.kubernetes.labels import MODEL, STAGE, USES_POSTGRES
from resources.serving.cluster_services import AUTOSCALER
from resources.serving.predictor_pod import KindOfService, PodSettings, predictor_pod, version_annotations
from resources.serving.service_settings import USUAL, Scale, ServiceSettings
from resources.serving.transformer_pod import transformer_pod

if TYPE_CHECKING:
    from mlops_assets.serving.declaration import ServedVersion

KSERVE = KindOfService(
    api_version="serving.kserve.io/v1beta1",
    kind="InferenceService",
    plural="inferenceservices",
    of_service="serving.kserve.io/inferenceservice",
    deployment=lambda name: f"{name}-predictor",
)

# No route of KServe's own, which knows no callers: a model is open to the world by `deploy.expose` alone
CLUSTER_LOCAL = {"networking.kserve.io/visibility": "cluster-local"}
COMPONENT = "component"  # KServe's label of pods: predictor or transformer


def inference_service(
    name: str,
    model: str,
    version: ServedVersion,
    uri: str,
    image: str,
    *,
    platform_image: str = "",
    replicas: int,
    service: ServiceSettings = USUAL,
    namespace: str = "",
    prometheus: str | None = None,
    **settings: Unpack[PodSettings],
) -> dict[str, Any]:
    """The InferenceService `name` that serves the artifact at `uri`, s3://bucket/prefix, in KServe's Standard mode.

    `replicas` are the environment's, where `service` says nothing else; `settings` are those of `predictor_pod`. By
    concurrency KEDA scales, which asks the server at the address `prometheus` about the pods in `namespace`. Where
    features are looked up, a transformer of the image `platform_image` does that.
    """
    pod = predictor_pod(
        "kserve-container",
        "http1",  # KServe's Service has the first port as 80, and each further one under its own number
        {KSERVE.of_service: name, COMPONENT: "predictor"},
        model,
        version,
        uri,
        image,
        service.resources,
        **settings,
    )
    least, most = service.scale.replicas(replicas)
    labels = {MODEL: model, STAGE: "serving"}
    replicated: dict[str, Any] = {
        "minReplicas": least,
        "maxReplicas": most,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    }
    spec = {
        "predictor": {**pod, **replicated, **_scaling(name, namespace, service.scale, prometheus), "labels": labels}
    }
    if service.looked_up:
        transformer = transformer_pod(
            {KSERVE.of_service: name, COMPONENT: "transformer"},
            model,
            f"{KSERVE.deployment(name)}.{namespace}",
            platform_image,
            prefix=settings.get("prefix", ""),
            max_body_mib=settings.get("max_body_mib", 8),
        )
        # It is scaled by CPU, whatever the predictor is scaled by
        about = {"labels": {**labels, USES_POSTGRES: "true"}, "annotations": {AUTOSCALER: "hpa"}}
        spec["transformer"] = {**transformer, **replicated, **about}
    # KServe gives its Deployment and the pods these, which tells when they are those of this specification
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        AUTOSCALER: scaler_of(service.scale),
        **version_annotations(version, uri, spec, service),
    }
    return {
        "apiVersion": KSERVE.api_version,
        "kind": KSERVE.kind,
        "metadata": {"name": name, "annotations": annotations, "labels": {MODEL: model, **CLUSTER_LOCAL}},
        "spec": spec,
    }


def scaler_of(scale: Scale) -> str:
    """What KServe makes to scale a service: a HorizontalPodAutoscaler, or a ScaledObject of KEDA."""
    return "keda" if scale.metric == "concurrency" else "hpa"


def _scaling(name: str, namespace: str, scale: Scale, prometheus: str | None) -> dict[str, Any]:
    """By what a predictor is scaled. KServe knows no concurrency without Knative, so KEDA asks Prometheus about it."""
    if scaler_of(scale) == "hpa":
        return {"scaleMetric": scale.metric, "scaleTarget": scale.threshold}
    # Little's law: seconds spent on requests in each second are the requests that are being answered at a time
    pods = f'namespace="{namespace}",pod=~"{KSERVE.deployment(name)}-.*"'
    query = f"sum(rate(model_request_duration_seconds_sum{{{pods}}}[1m]))"
    metric = {"backend": "prometheus", "serverAddress": prometheus, "query": query}
    external = {"metric": metric, "target": {"type": "Value", "value": str(scale.threshold)}}
    return {"autoScaling": {"metrics": [{"type": "External", "external": external}]}}
