"""How far two sets of answers are from each other, in the unit of what is answered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.training.agreement import largest_difference
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def regression(tmp_path: Path) -> FeatureSet:
    """A target with a mean of 0 and a standard deviation of 2."""
    prepare_and_build_features(tmp_path, weather().drop(columns="rain"), "regression", TARGETS["regression"])
    return FeatureSet.read(tmp_path / "features").model_copy(update={"target_mean": 0.0, "target_std": 2.0})


def test_of_probabilities_it_is_in_their_unit(features: Path) -> None:
    graph, trained = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([[0.1, 0.9], [0.5, 0.5]])
    assert largest_difference(graph, trained, FeatureSet.read(features)) == pytest.approx(0.1)


def test_of_a_regression_it_is_relative_to_the_largest_answer(regression: FeatureSet) -> None:
    assert largest_difference(np.array([[90.0], [1.0]]), np.array([[100.0], [1.0]]), regression) == pytest.approx(0.1)


def test_of_small_answers_it_is_relative_to_the_spread_of_the_target(regression: FeatureSet) -> None:
    assert largest_difference(np.array([[0.2], [0.0]]), np.array([[0.0], [0.0]]), regression) == pytest.approx(0.1)


def test_of_a_target_far_from_0_the_distance_counts_from_its_mean(regression: FeatureSet) -> None:
    seconds = regression.model_copy(update={"target_mean": 1.7e9})
    difference = largest_difference(np.array([[1.7e9 + 9.0]]), np.array([[1.7e9 + 10.0]]), seconds)
    assert difference == pytest.approx(0.1)


def test_answers_of_another_shape_are_infinitely_far(features: Path) -> None:
    assert largest_difference(np.zeros((4, 2)), np.zeros((64, 2)), FeatureSet.read(features)) == math.inf


def test_nan_is_near_to_nothing(features: Path) -> None:
    difference = largest_difference(np.array([[np.nan, 1.0]]), np.array([[0.0, 1.0]]), FeatureSet.read(features))
    assert math.isnan(difference)
