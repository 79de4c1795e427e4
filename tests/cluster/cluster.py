"""The manifests of `k8s/`: overlays as lists of objects, and the secrets of the one that is deployed for tests."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.platform import kubectl

TEST_IMAGE = "localhost/mlops-assets:test"
K8S = Path(__file__).parents[2] / "k8s"


def write_secrets(folder: Path = K8S / "overlays" / "test") -> None:
    """Make the env files of overlays/test, which git ignores. Files that are there stay: a database may know them."""
    mlflow = secrets.token_hex(16)
    contents = {
        "postgres": {"password": secrets.token_hex(16)},
        "dagster-postgresql": {"postgresql-password": secrets.token_hex(16)},
        "mlflow-database": {"password": mlflow, "uri": f"postgresql+psycopg2://mlflow:{mlflow}@postgres:5432/mlflow"},
        # moto takes any
        "lake-credentials": {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)},
    }
    for name, values in contents.items():
        file = folder / f"{name}.env"
        if not file.exists():
            file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))


def overlay(name: str, image: str = TEST_IMAGE) -> list[dict[str, Any]]:
    """The objects of an overlay; `image` stands where overlays/test names the test image."""
    if name == "test":
        write_secrets()
    return list(yaml.safe_load_all(kubectl("kustomize", str(K8S / "overlays" / name)).replace(TEST_IMAGE, image)))
