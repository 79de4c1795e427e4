"""A small network and its training, for the tests of what trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.data.contract import NamedColumn
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.training.training_config import TrainingConfig
from tests.support import fit

if TYPE_CHECKING:
    from pathlib import Path

ROWS, WIDTH = 1_000, 5
CONFIG = TrainingConfig(
    network="mlops_assets.ml.networks.MLP",
    params={"hidden": [8], "dropout": 0.2},
    epochs=4,
    batch_size=64,
    learning_rate=0.01,
    schedule="cosine",
)


def weights(features: Path, out: Path, config: TrainingConfig = CONFIG, **arguments: Any) -> bytes:
    """The weights that a training gives, as the file that holds them."""
    fit(features, out, config, **arguments)
    return (out / "weights.safetensors").read_bytes()


def write_features(folder: Path, rows: int, width: int) -> None:
    """Arrays of a features snapshot with two classes, of which the first three features decide the label."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, width)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] + generator.normal(0, 0.3, rows) > 0).astype(np.int64)
    np.save(folder / "x_train.npy", x)
    np.save(folder / "y_train.npy", y)
    names = tuple(f"c{index}" for index in range(width))
    FeatureSet(
        task="binary_classification",
        inputs=tuple(NamedColumn(name=name, type="number") for name in names),
        feature_names=names,
        train_rows=rows,
        validation_rows=max(1, rows // 10),
        test_rows=0,
        classes=(0, 1),
        target_mean=0.0,
        target_std=1.0,
        non_finite={},
        rare={},
    ).write(folder)
