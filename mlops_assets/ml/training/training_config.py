"""Everything that decides a model's weights, apart from the data: the part of the YAML's `train` that counts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mlops_assets.ml.import_paths import ImportPath
from mlops_assets.ml.values import Value


class EarlyStopping(Value):
    """When training ends before its last epoch."""

    patience: int = Field(ge=1, description="Epochs without improvement of the validation loss")
    min_delta: float = Field(default=0.0, ge=0, description="A smaller improvement does not count")


class TrainingConfig(Value):
    """The network or estimator, its hyperparameters, and how it is fitted."""

    network: ImportPath = Field(description="torch.nn.Module or scikit-learn estimator, by import path")
    params: dict[str, Any] = Field(default_factory=dict, description="Arguments of the network or estimator")
    epochs: int = Field(default=20, ge=1, le=100_000, description="Passes over the train rows, at most")
    batch_size: int = Field(default=1024, ge=1, description="Rows of one step")
    learning_rate: float = Field(default=0.001, gt=0, description="Step size of Adam")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="The learning rate over the epochs: constant, or falling to 0 like a cosine"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty on the weights")
    early_stopping: EarlyStopping | None = Field(default=None, description="Stop when validation does not improve")
    seed: int = Field(default=0, ge=0, description="Of weights, order of rows and dropout")
