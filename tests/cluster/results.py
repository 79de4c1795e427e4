"""What runs have stored: objects in the lake, logs of their steps, runs in MLflow. Read in the code location's pod."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.kubectl import run_script


def keys(prefix: str) -> list[str]:
    """Keys of the bucket."""
    return run_script("list_keys", prefix).split()


def training_keys(model: str) -> list[str]:
    """All that a model's trainings have stored."""
    return keys(f"lake/{model}/trained_model/") + keys(f"lake/checkpoints/{model}/")


def training_file(model: str, name: str) -> Any:
    """A JSON file of the one training that is stored."""
    [key] = [key for key in training_keys(model) if key.endswith(f"/{name}")]
    return json.loads(run_script("read_keys", key))


def weights_sha256(model: str) -> str:
    """Digest of the model's weights, as its snapshot's manifest has it."""
    files = training_file(model, "manifest.json")["files"]
    return next(file["sha256"] for file in files if file["name"] == "weights.safetensors")


def compute_logs(run_id: str) -> str:
    """What the steps of a run wrote, as far as it was uploaded."""
    found = [key for key in keys("compute-logs/") if run_id in key]
    return run_script("read_keys", *found)


def mlflow_runs() -> list[dict[str, Any]]:
    """Experiment, status, tags and metrics of all MLflow runs."""
    return json.loads(run_script("mlflow_runs"))
