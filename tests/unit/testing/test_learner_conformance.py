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


class Forgetful(Mean):
    """It gives no learning curve."""

    def fit(self, folder: Path, out: Path, run: Any) -> Any:
        super().fit(folder, out, run)


class Vandal(Mean):
    """It writes into the arrays that it learns from."""

    def fit(self, folder: Path, out: Path, run: Any) -> LearningCurve:
        np.save(folder / "x_train.npy", np.zeros_like(np.load(folder / "x_train.npy")))
        return super().fit(folder, out, run)


class Lost(Mean):
    """It predicts no number."""

    def predict(self, x: Any) -> Any:
        return np.full((len(x), 1), np.nan)


class Foreign(Mean):
    """Its graph needs operators that no predictor takes."""

    def to_onnx(self) -> Any:
        import onnx

        graph = super().to_onnx()
        graph.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        return graph


@pytest.mark.parametrize(("task", "network"), LEARNERS)
def test_what_the_platform_can_train_keeps_the_promises_of_a_learner(task: Task, network: str) -> None:
    params = {"hidden": [8]} if network == NETWORK else {"n_estimators": 5} if "forest" in network.lower() else {}
    epochs = {"epochs": 2, "batch_size": 64} if network == NETWORK else {}
    check_learner(TrainingConfig.model_validate({"network": network, "params": params, **epochs}), task)


BROKEN = {
    Liar: "to_onnx: the graph differs from predict by",
    Forgetful: "fit: fit gives NoneType, wanted a LearningCurve",
    Vandal: "fit changed the arrays",
    Lost: "predict: predict gives NaN",
    Foreign: "to_onnx: .*com.microsoft.*allowed are the standard ones alone",
}


@pytest.mark.parametrize(("learner", "message"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_learner_that_a_run_would_refuse_is_found(learner: type[Mean], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_learner(TrainingConfig(network=f"{__name__}.{learner.__name__}"), "regression")
