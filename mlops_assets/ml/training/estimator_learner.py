"""Scikit-learn estimators as learners, fitted on the same arrays as networks."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import load_arrays
from mlops_assets.ml.features.sklearn_to_onnx import to_onnx, with_single_output
from mlops_assets.ml.import_paths import construct, import_class
from mlops_assets.ml.training.learner import LearningCurve

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeatureSet
    from mlops_assets.ml.training.learner import TrainingRun
    from mlops_assets.ml.training.training_config import TrainingConfig


class EstimatorLearner:
    """The estimator that `train.network` names; the seed is its random_state where it takes one."""

    trains_in_parallel: ClassVar[bool] = False

    def __init__(self, config: TrainingConfig, features: FeatureSet) -> None:
        self.config, self.features = config, features
        self.is_regression = features.task == "regression"
        kind = import_class(config.network)
        params = dict(config.params)
        if "random_state" in inspect.signature(kind).parameters:
            params.setdefault("random_state", config.seed)
        self.estimator = construct(kind, params)
        for method in ("fit", "predict" if self.is_regression else "predict_proba"):
            if not hasattr(self.estimator, method):
                remedy = "choose another estimator"
                raise TrainingError(f"{config.network} has no {method}", where="train.network", remedy=remedy)

    def fit(self, folder: Path, out: Path, run: TrainingRun) -> LearningCurve:
        """Fit on the train arrays at once: there are no checkpoints, and no epochs to show."""
        x, y = load_arrays(folder, "train")
        try:
            self.estimator.fit(np.asarray(x), np.asarray(y))
        except ValueError as error:
            what = f"{self.config.network} cannot be fitted: {error}"
            raise TrainingError(what, remedy="correct train.params") from error
        return LearningCurve()

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """As the estimator predicts, (n, 1) or (n, k)."""
        if self.is_regression:
            return np.asarray(self.estimator.predict(x)).reshape(-1, 1)
        return np.asarray(self.estimator.predict_proba(x))

    def to_onnx(self) -> Any:
        """The estimator as skl2onnx converts it."""
        from skl2onnx.common.data_types import FloatTensorType

        options = None if self.is_regression else {id(self.estimator): {"zipmap": False, "output_class_labels": False}}
        inputs = [("features", FloatTensorType([None, len(self.features.feature_names)]))]
        graph = to_onnx(self.estimator, "estimator", inputs, options)
        if self.is_regression:
            return with_single_output(graph, 0, "prediction")
        # The first output is the label, which the export makes of the probabilities
        return with_single_output(graph, 1, "probabilities")
