"""Which learner fits what `train.network` names, and what is said where none does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.training.estimator_learner import EstimatorLearner
from mlops_assets.ml.training.learners import learner_for
from mlops_assets.ml.training.network_learner import NetworkLearner
from mlops_assets.ml.training.training_config import TrainingConfig
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import fit, weather
from tests.unit.testing.test_learner_conformance import Mean

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("network", "learner"),
    [
        ("mlops_assets.ml.networks.MLP", NetworkLearner),
        ("sklearn.linear_model.Ridge", EstimatorLearner),
        ("tests.unit.testing.test_learner_conformance.Mean", Mean),
    ],
)
def test_a_network_an_estimator_and_a_learner_of_its_own_are_told_apart(
    features: Path, network: str, learner: type
) -> None:
    regression = FeatureSet.read(features).model_copy(update={"task": "regression", "classes": None})
    assert type(learner_for(TrainingConfig(network=network), regression)) is learner


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
