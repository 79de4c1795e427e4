"""A small network and its training, for the tests of what trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
