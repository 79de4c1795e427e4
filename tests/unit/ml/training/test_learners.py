"""Which learner fits what `train.network` names, and what is said where none does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.training.training_config import TrainingConfig
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import fit, weather

if TYPE_CHECKING:
    from pathlib import Path


def test_a_network_that_does_not_exist(tmp_path: Path) -> None:
    prepare_and_build_features(tmp_path, weather().drop(columns="rain"), "regression", TARGETS["regression"])
    for network, message in (
        ("mlops_assets.ml.networks.RNN", "cannot be imported"),
        ("sklearn.linear_model.ridge_regression", "is no class"),
        ("sklearn.preprocessing.StandardScaler", "has no predict"),
    ):
        config = TrainingConfig(network=network)
        with pytest.raises(TrainingError, match=message):
            fit(tmp_path / "features", tmp_path, config)
