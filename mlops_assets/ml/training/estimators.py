"""Fits scikit-learn estimators on the same arrays as networks."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import load_arrays
from mlops_assets.ml.networks import construct, find

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.training.training_config import TrainingConfig


def fit(features: Path, out: Path, config: TrainingConfig) -> Any:
    """The fitted estimator; the seed is its random_state where it takes one. Writes an empty learning curve.

    Raises:
        TrainingError: the params do not fit, or a classifier gives no probabilities.
    """
    kind = find(config.network)
    params = dict(config.params)
    if "random_state" in inspect.signature(kind).parameters:
        params.setdefault("random_state", config.seed)
    estimator = construct(kind, params)
    for method in ("fit", "predict" if config.task == "regression" else "predict_proba"):
        if not hasattr(estimator, method):
            raise TrainingError(f"train.network: {config.network} has no {method}; choose another estimator.")
    x, y = load_arrays(features, "train")
    try:
        estimator.fit(np.asarray(x), np.asarray(y))
    except ValueError as error:
        raise TrainingError(f"{config.network} cannot be fitted: {error}; correct train.params.") from error
    (out / "curve.json").write_text("[]")
    return estimator
