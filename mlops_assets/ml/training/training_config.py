"""Everything that decides a model's weights, apart from the data."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mlops_assets.ml.values import Task, Value


class TrainingConfig(Value):
    """The network or estimator, its params, and how it is fitted."""

    task: Task
    network: str
    params: dict[str, Any] = Field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 1024
    learning_rate: float = 0.001
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    patience: int | None = None
    min_delta: float = 0.0
    validation_share: float = 0.1
    seed: int = 0
