"""The state of a training: where its arrays lie, and when it gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import FeatureSet
from tests.training import CONFIG, ROWS, WIDTH, weights

if TYPE_CHECKING:
    from pathlib import Path


def test_a_loss_that_is_not_finite_is_told(features: Path, tmp_path: Path) -> None:
    np.save(features / "x_train.npy", np.full((ROWS, WIDTH), 1e30, dtype=np.float32))
    FeatureSet.read(features).model_copy(update={"task": "regression", "classes": None}).write(features)
    config = CONFIG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        weights(features, tmp_path / "out", config)


def test_arrays_that_do_not_fit_the_device_give_the_same_weights(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = weights(features, tmp_path / "a")
    monkeypatch.setattr("mlops_assets.ml.training.training_state.ON_DEVICE_BYTES", 0)
    assert weights(features, tmp_path / "b") == resident
