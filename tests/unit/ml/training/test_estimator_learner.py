"""Scikit-learn estimators as learners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.training.training_config import TrainingConfig
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import fit, weather

if TYPE_CHECKING:
    from pathlib import Path


def test_params_that_do_not_fit(tmp_path: Path) -> None:
    prepare_and_build_features(tmp_path, weather().drop(columns="rain"), "regression", TARGETS["regression"])
    config = TrainingConfig(network="sklearn.linear_model.Ridge", params={"alpa": 1})
    with pytest.raises(TrainingError, match=r"train\.params: they do not fit Ridge"):
        fit(tmp_path / "features", tmp_path, config)
