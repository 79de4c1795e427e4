"""Explanations in a model's own words: of a regression, and of each class of a classification."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.errors import BadRequest
from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.ml.inference.explain import explain_rows
from mlops_assets.ml.inference.onnx_model import OnnxModel, to_model_inputs
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.learner import TRAINING_FILES
from mlops_assets.ml.training.training_config import TrainingConfig
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import fit, weather

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_assets.ml.inference.artifact import ModelSignature
    from mlops_assets.ml.values import Task

    Made = tuple[OnnxModel, ModelSignature, dict[str, Any], dict[str, Any]]

NETWORKS = {
    "regression": "sklearn.ensemble.HistGradientBoostingRegressor",
    "binary_classification": "mlops_assets.ml.networks.MLP",
    "multiclass_classification": "sklearn.neural_network.MLPClassifier",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Made]:
    """Of a task: a graph, its signature, 1,000 rows, and the background."""

    def make(task: Task) -> Made:
        folder = tmp_path_factory.mktemp(task)
        frame = weather(1_000).drop(columns="rain")
        prepare_and_build_features(folder, frame, task, TARGETS[task])
        fields = {"params": {"hidden": [8]}, "epochs": 2} if task == "binary_classification" else {}
        config = TrainingConfig.model_validate({"network": NETWORKS[task], **fields})
        out = folder / "out"
        learner = fit(folder / "features", out, config)
        digest = export("weather", folder / "features", out, learner).sha256
        graph, signature = load_artifact(out, digest, beside=TRAINING_FILES | {"checkpoints"})
        inputs = to_model_inputs(frame, signature.inputs)
        sample = {name: values[:64] for name, values in inputs.items()}
        return OnnxModel(graph), signature, inputs, sample

    return make


@pytest.mark.parametrize("task", NETWORKS)
def test_of_a_thousand_rows_all_add_up_to_what_is_predicted(made: Callable[[Task], Made], task: Task) -> None:
    model, signature, inputs, background = made(task)
    outputs, found = model.predict(inputs), explain_rows(model, signature, inputs, background)
    assert len(found) == 1_000
    if signature.classes is None:
        predicted = outputs["prediction"][:, 0]
        assert {explanation.label for explanation in found} == {None}
    else:
        predicted = outputs["probabilities"].max(axis=1)
        answered = outputs["label"].ravel().tolist()
        assert [repr(explanation.label) for explanation in found] == [repr(label) for label in answered]
    added = [explanation.base_value + sum(explanation.attributions.values()) for explanation in found]
    np.testing.assert_allclose(added, predicted, rtol=1e-3, atol=1e-3)
    assert [explanation.value for explanation in found] == pytest.approx(predicted.tolist())
    assert set(found[0].attributions) == {column.name for column in signature.inputs}


def test_the_classes_of_a_row_add_up_to_nothing(made: Callable[[Task], Made]) -> None:
    model, signature, inputs, background = made("multiclass_classification")
    one = {name: values[:1] for name, values in inputs.items()}
    assert signature.classes is not None
    found = [explain_rows(model, signature, one, background, label)[0] for label in signature.classes]
    assert [each.label for each in found] == list(signature.classes)
    assert sum(each.value for each in found) == pytest.approx(1, abs=1e-6)
    for name in one:
        assert sum(each.attributions[name] for each in found) == pytest.approx(0, abs=1e-6)


def test_a_class_that_there_is_not_is_refused(made: Callable[[Task], Made]) -> None:
    model, signature, inputs, background = made("regression")
    with pytest.raises(BadRequest, match="predicts a number, and has no classes; leave label out"):
        explain_rows(model, signature, inputs, background, "a")
    model, signature, inputs, background = made("binary_classification")
    for wrong in ("snow", 7, [1], {"a": 1}):
        with pytest.raises(BadRequest, match=f"label is {re.escape(repr(wrong))}, but must be one of 0, 1"):
            explain_rows(model, signature, inputs, background, wrong)
