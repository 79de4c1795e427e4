"""The InferenceService of a model's version, as a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resources.kubernetes.labels import ARTIFACT, MODEL, SHA256, STAGE, VERSION

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


def service_name(model: str) -> str:
    """The InferenceService of a model; Kubernetes' names have no underscores."""
    return model.replace("_", "-")


def inference_service(name: str, model: str, version: ServedVersion, uri: str, image: str) -> dict[str, Any]:
    """The InferenceService `name` that serves the artifact at `uri`, s3://bucket/prefix, in KServe's Standard mode."""
    arguments = ["--fetch", uri, "--model", model, "--model-version", version.version, "--sha256", version.sha256]
    container = {
        "name": "kserve-container",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--models", "/tmp/models", "--port", "8080", "--host", "0.0.0.0", *arguments],  # noqa: S104, S108
        "envFrom": [
            {"configMapRef": {"name": "mlops-environment"}},
            {"secretRef": {"name": "lake-credentials", "optional": True}},
        ],
        "ports": [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}],
        # Ready means that the golden rows were answered as in training
        "readinessProbe": {"httpGet": {"path": f"/v2/models/{model}/ready", "port": 8080}, "periodSeconds": 2},
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": 8080},
            "initialDelaySeconds": 60,
            "periodSeconds": 10,
        },
        "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108
    }
    predictor = {
        "minReplicas": 1,
        "maxReplicas": 3,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "serviceAccountName": "predictor",
        "automountServiceAccountToken": False,
        "priorityClassName": "mlops-serving",
        "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "labels": {MODEL: model, STAGE: "serving"},
    }
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        VERSION: version.version,
        SHA256: version.sha256,
        ARTIFACT: uri,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations, "labels": {MODEL: model}},
        "spec": {"predictor": predictor},
    }
