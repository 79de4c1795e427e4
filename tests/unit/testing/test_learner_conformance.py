"""The conformance test of learners: ours pass it, and one that does not keep its word fails with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from mlops_assets.ml.features.feature_set import load_arrays
from mlops_assets.ml.training.learner import LearningCurve
from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.testing import check_learner

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Task

NETWORK = "mlops_assets.ml.networks.MLP"
LEARNERS: list[tuple[Task, str]] = [
    ("regression", NETWORK),
    ("binary_classification", NETWORK),
    ("multiclass_classification", NETWORK),
    ("regression", "sklearn.linear_model.Ridge"),
    ("regression", "sklearn.ensemble.RandomForestRegressor"),
    ("binary_classification", "sklearn.ensemble.RandomForestClassifier"),
    ("multiclass_classification", "sklearn.linear_model.LogisticRegression"),
    ("regression", "tests.unit.testing.test_learner_conformance.Mean"),
]


class Mean:
    """The smallest learner: it predicts the mean of the target."""

    trains_in_parallel: ClassVar[bool] = False
    answer = 0.0

    def __init__(self, config: TrainingConfig, features: Any) -> None:
        self.features = features
        self.mean = np.zeros((1, 1), np.float32)

    def fit(self, folder: Path, out: Path, run: Any) -> LearningCurve:
        _, y = load_arrays(folder, "train")
        self.mean[:] = y.mean() + self.answer
        return LearningCurve()

    def predict(self, x: Any) -> Any:
        return np.repeat(self.mean, len(x), axis=0)

    def to_onnx(self) -> Any:
        import onnx

        mean = float(self.mean[0, 0]) - self.answer
        width = len(self.features.feature_names)
        return onnx.parser.parse_model(
            f"""<ir_version: 10, opset_import: ["" : 18]>
            mean (float[N, {width}] features) => (float[N, 1] prediction) {{
                nothing = Constant<value = float[{width}, 1] {{{", ".join(["0.0"] * width)}}}>()
                mean = Constant<value = float[1] {{{mean}}}>()
                zeros = MatMul(features, nothing)
                prediction = Add(zeros, mean)
            }}"""
        )


class Liar(Mean):
    """Its graph answers something else than it predicts."""

    answer = 1.0


@pytest.mark.parametrize(("task", "network"), LEARNERS)
def test_what_the_platform_can_train_keeps_the_promises_of_a_learner(task: Task, network: str) -> None:
    params = {"hidden": [8]} if network == NETWORK else {"n_estimators": 5} if "forest" in network.lower() else {}
    check_learner(TrainingConfig(network=network, params=params, epochs=2, batch_size=64), task)


def test_a_graph_that_answers_differently_is_found() -> None:
    with pytest.raises(AssertionError, match="the graph differs from predict by 1"):
        check_learner(TrainingConfig(network="tests.unit.testing.test_learner_conformance.Liar"), "regression")
