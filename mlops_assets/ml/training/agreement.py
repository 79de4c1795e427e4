"""How far the answers of a graph are from those of the trained model that it was made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.features.target_scale import is_far

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeatureSet


def largest_difference(answers: NDArray[Any], trained: NDArray[Any], features: FeatureSet) -> float:
    """The largest absolute difference between two sets of answers, (n, 1) or (n, k).

    It is NaN where one has NaN, and infinite where their shapes differ.

    Of probabilities it is in their unit. Of a regression it is relative to the largest answer or the target's standard
    deviation, which float32 can resolve, or did where the target was standardised.
    """
    if answers.shape != trained.shape:
        return math.inf
    difference = float(np.max(np.abs(answers - trained)))
    if features.task != "regression":
        return difference
    size = max(features.target_std, np.max(np.abs(trained - (features.target_mean if is_far(features) else 0))))
    return float(difference / size)
