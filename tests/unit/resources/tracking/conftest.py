"""A model of its own for each test, on a real MLflow server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import Tracking

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient


@pytest.fixture
def model() -> str:
    return f"weather_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


@pytest.fixture
def tracking(mlflow_uri: str, lake: Lake) -> Tracking:
    return Tracking(uri=mlflow_uri, lake=lake)


@pytest.fixture
def client(tracking: Tracking) -> MlflowClient:
    return tracking.client
