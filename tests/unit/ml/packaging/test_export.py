"""The promise of the export: the ONNX graph answers as what was trained does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, to_model_inputs
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.learner import TRAINING_FILES
from mlops_assets.ml.training.training_config import TrainingConfig
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import fit, weather

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Task


NETWORKS = [
    ("regression", "mlops_assets.ml.networks.MLP"),
    ("binary_classification", "mlops_assets.ml.networks.MLP"),
    ("multiclass_classification", "mlops_assets.ml.networks.MLP"),
    ("regression", "sklearn.linear_model.Ridge"),
    ("regression", "sklearn.ensemble.HistGradientBoostingRegressor"),
    ("binary_classification", "sklearn.ensemble.RandomForestClassifier"),
    ("binary_classification", "sklearn.linear_model.LogisticRegression"),
    ("multiclass_classification", "sklearn.ensemble.GradientBoostingClassifier"),
    ("multiclass_classification", "sklearn.neural_network.MLPClassifier"),
]


@pytest.mark.parametrize(("task", "network"), NETWORKS)
def test_the_exported_graph_equals_what_was_trained(tmp_path: Path, task: Task, network: str) -> None:
    frame = weather(600).drop(columns="rain")
    prepare_and_build_features(tmp_path, frame, task, TARGETS[task])
    features, out = tmp_path / "features", tmp_path / "out"
    fields = {"params": {"hidden": [8]}, "epochs": 2} if "networks" in network else {}
    config = TrainingConfig.model_validate({"network": network, **fields})
    signature = export("weather", features, out, fit(features, out, config))
    assert signature.export_difference < 1e-5
    graph, _ = load_artifact(out, signature.sha256, beside=TRAINING_FILES | {"checkpoints"})
    given = OnnxModel(graph).predict(to_model_inputs(frame, signature.inputs))
    assert len(next(iter(given.values()))) == 600
    if task != "regression":
        np.testing.assert_allclose(given["probabilities"].sum(axis=1), 1, atol=1e-5)
        assert signature.classes is not None
        labels = np.array([signature.classes[index] for index in given["probabilities"].argmax(axis=1)])
        assert (labels.astype(given["label"].dtype) == given["label"]).all()


def test_explanations_begin_from_rows_from_all_over_the_train_part_and_fewer_where_they_are_long(
    tmp_path: Path,
) -> None:
    frame = weather(600).drop(columns="rain")
    frame["place"] = [f"{'x' * 20_000}{row}" for row in range(600)]
    for name, rows, number in (("short", frame.assign(place="Bern"), 64), ("long", frame, 26)):
        folder = tmp_path / name
        folder.mkdir()
        prepare_and_build_features(folder, rows, "regression", TARGETS["regression"])
        features, out = folder / "features", folder / "out"
        config = TrainingConfig.model_validate({"network": "sklearn.linear_model.Ridge"})
        signature = export("weather", features, out, fit(features, out, config))
        assert len(signature.background) == number
        assert signature.explained_from == signature.background
        assert len({row["pressure"] for row in signature.background}) > 0.8 * number
