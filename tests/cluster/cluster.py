"""The manifests of `k8s/`: overlays as lists of objects, and the secrets of the one that is deployed for tests."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kubectl import kubectl

# Images of this registry have the packages by a volume on the disk of this machine; others have them inside
LOCAL = "localhost"
REGISTRY = os.environ.get("MLOPS_TEST_REGISTRY", LOCAL)
NODE_CLASS = os.environ.get("MLOPS_NODE_CLASS", "karpenter.kwok.sh/KWOKNodeClass/default")
K8S = Path(__file__).parents[2] / "k8s"


def write_secrets(folder: Path = K8S / "overlays" / "test") -> None:
    """Make the env files of overlays/test, which git ignores. Files that are there stay: a database may know them."""
    mlflow, features = secrets.token_hex(16), secrets.token_hex(16)
    contents = {
        "postgres": {"password": secrets.token_hex(16)},
        "dagster-postgresql": {"username": "dagster_a", "postgresql-password": secrets.token_hex(16)},
        "mlflow-database": {
            "username": "mlflow_a",
            "password": mlflow,
            "uri": f"postgresql+psycopg2://mlflow_a:{mlflow}@postgres:5432/mlflow",
        },
        "features-database": {
            "username": "features_a",
            "password": features,
            "uri": f"postgresql://features_a:{features}@postgres:5432/features",
        },
        # moto takes any
        "lake-credentials": {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)},
    }
    for name, values in contents.items():
        file = folder / f"{name}.env"
        if not file.exists():
            file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))


def overlay(name: str) -> list[dict[str, Any]]:
    """The objects of an overlay; that of the tests with images from REGISTRY and nodes of NODE_CLASS."""
    if name != "test":
        return list(yaml.safe_load_all(kubectl("kustomize", str(K8S / "overlays" / name))))
    write_secrets()
    text = kubectl("kustomize", str(K8S / "overlays" / name))
    objects = list(yaml.safe_load_all(text.replace(f"{LOCAL}/mlops-", f"{REGISTRY}/mlops-")))
    return [with_nodes_of_tests(item) for item in objects]


def with_nodes_of_tests(item: dict[str, Any]) -> dict[str, Any]:
    """The object; a NodePool with nodes of NODE_CLASS."""
    if item["kind"] != "NodePool":
        return item
    template = item["spec"]["template"]
    node_class = dict(zip(("group", "kind", "name"), NODE_CLASS.split("/"), strict=True))
    template = template | {"spec": template["spec"] | {"nodeClassRef": node_class}}
    return item | {"spec": item["spec"] | {"template": template}}
