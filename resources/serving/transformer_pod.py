"""The pod of a transformer, which looks features up for callers and asks the predictor beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resources.serving.serving_pod import DRAIN_S, GRPC, HTTP, mebibytes, serving_pod

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE = {"name": "features-database", "key": "uri"}  # a Secret and its key
OF_LIBPQ = ("PGSSLMODE", "PGSSLROOTCERT")  # of the environment's ConfigMap, where the database shows a certificate


def transformer_pod(
    selector: Mapping[str, str], model: str, predictor: str, image: str, *, prefix: str = "", max_body_mib: int = 8
) -> dict[str, Any]:
    """The specification of a pod of the platform's image that answers for a model by asking the host `predictor`.

    `selector` are the labels of the pods beside it, `prefix` is that of the cluster's priority classes.
    """
    # KServe would add those of these that are missing, in its own words
    told = {"--model_name": model, "--predictor_host": predictor, "--http_port": str(HTTP)}
    told |= {"--host": "0.0.0.0", "--grpc-port": str(GRPC), "--drain": str(DRAIN_S)}  # noqa: S104
    settings = [
        {"name": name, "valueFrom": {"configMapKeyRef": {"name": "mlops-environment", "key": name, "optional": True}}}
        for name in OF_LIBPQ
    ]
    pod = serving_pod(
        "transformer",
        selector,
        {
            "name": "kserve-container",
            "image": image,
            "command": ["python", "-m", "resources.features.transformer"],
            "args": [part for pair in told.items() for part in pair],
            "env": [
                {"name": "MLOPS_FEATURES_DATABASE", "valueFrom": {"secretKeyRef": DATABASE}},
                {"name": "SERVING_MAX_BODY_MIB", "value": str(max_body_mib)},
                *settings,
            ],
            "ports": [
                {"name": "http", "containerPort": HTTP, "protocol": "TCP"},
                {"name": "grpc", "containerPort": GRPC, "protocol": "TCP"},
            ],
            # Ready means that it has looked up in each of the model's views, and that the predictor was ready then
            "readinessProbe": {
                "httpGet": {"path": "/v2/health/ready", "port": HTTP},
                "periodSeconds": 2,
                "timeoutSeconds": 5,
            },
            "resources": {
                "requests": {"cpu": "200m", "memory": "512Mi"},
                "limits": {"memory": mebibytes(1024, max_body_mib << 26)},
            },
        },
        prefix=prefix,
        mounts={
            "/etc/database-ca": {"name": "database-ca", "configMap": {"name": "database-ca", "optional": True}},
        },
    )
    # The Service "mlflow" would otherwise set MLFLOW_PORT to an address
    return pod | {"enableServiceLinks": False}
