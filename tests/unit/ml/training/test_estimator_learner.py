"""Scikit-learn estimators as learners: what cannot be served is refused before the fit, the others keep to [0, 1]."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.data.contract import NamedColumn
from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import FeatureSet, load_arrays
from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.ml.training import estimator_learner
from mlops_assets.ml.training.estimator_learner import EstimatorLearner
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.testing import check_learner
from resources.lake.folder_store import FolderStore
from resources.lake.lake_checkpoints import LakeCheckpoints
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import fit, weather

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Task

LOGISTIC = {"class": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 300}}
NO_ONNX_FORM = {
    "sklearn.dummy.DummyClassifier": {},
    "sklearn.gaussian_process.GaussianProcessClassifier": {},
    "sklearn.semi_supervised.LabelPropagation": {},
    "sklearn.semi_supervised.LabelSpreading": {},
    "sklearn.semi_supervised.SelfTrainingClassifier": {"estimator": LOGISTIC},
    "sklearn.ensemble.VotingClassifier": {
        "estimators": [["a", LOGISTIC], ["b", {"class": "sklearn.dummy.DummyClassifier"}]],
        "voting": "soft",
    },
}
ANOTHER_ANSWER: list[tuple[Task, str, dict[str, Any]]] = [
    ("binary_classification", "sklearn.neighbors.KNeighborsClassifier", {"weights": "distance"}),
    ("regression", "sklearn.neighbors.KNeighborsRegressor", {"weights": "distance", "metric": "cosine"}),
    ("binary_classification", "sklearn.discriminant_analysis.LinearDiscriminantAnalysis", {}),
    (
        "binary_classification",
        "sklearn.calibration.CalibratedClassifierCV",
        {"estimator": {"class": "sklearn.svm.LinearSVC"}, "method": "isotonic"},
    ),
    (  # its graph answers with so many rows as there are estimators
        "binary_classification",
        "sklearn.ensemble.BaggingClassifier",
        {"estimator": {"class": "sklearn.svm.LinearSVC"}},
    ),
]
NESTED: list[tuple[Task, str, dict[str, Any]]] = [
    (
        "binary_classification",
        "sklearn.ensemble.VotingClassifier",
        {"estimators": [["a", {"class": "sklearn.naive_bayes.GaussianNB"}], ["b", LOGISTIC]], "voting": "soft"},
    ),
    (
        "multiclass_classification",
        "sklearn.ensemble.StackingClassifier",
        {"estimators": [["a", {"class": "sklearn.tree.DecisionTreeClassifier"}]], "final_estimator": LOGISTIC},
    ),
    (
        "multiclass_classification",
        "sklearn.calibration.CalibratedClassifierCV",
        {"estimator": {"class": "sklearn.svm.SVC", "params": {"C": 2}}},
    ),
    (
        "regression",
        "sklearn.ensemble.AdaBoostRegressor",
        {"estimator": {"class": "sklearn.tree.DecisionTreeRegressor", "params": {"max_depth": 3}}, "n_estimators": 5},
    ),
    (
        "regression",
        "sklearn.pipeline.Pipeline",
        {
            "steps": [
                ["scale", {"class": "sklearn.preprocessing.StandardScaler"}],
                ["fit", {"class": "sklearn.svm.SVR"}],
            ]
        },
    ),
]


class Slow:
    """An estimator that is told to have no ONNX form before it has seen all rows."""

    seen = 0

    def fit(self, x: Any, y: Any) -> Slow:
        Slow.seen = max(Slow.seen, len(x))
        return self

    def predict_proba(self, x: Any) -> Any:
        return np.full((len(x), 2), 0.5)


def test_what_draws_from_the_global_generators_has_the_seed_all_the_same(features: Path, tmp_path: Path) -> None:
    before = np.random.get_state()[1].tolist()
    params = {"random_state": None, "n_estimators": 3}
    config = TrainingConfig(network="sklearn.ensemble.RandomForestClassifier", params=params, seed=3)
    first, second = (fit(features, tmp_path / name, config) for name in ("a", "b"))
    other = fit(features, tmp_path / "c", config.model_copy(update={"seed": 4}))
    x, _ = load_arrays(features, "train")
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    assert not np.allclose(first.predict(x), other.predict(x))
    assert np.random.get_state()[1].tolist() == before


def test_params_that_do_not_fit(tmp_path: Path) -> None:
    prepare_and_build_features(tmp_path, weather().drop(columns="rain"), "regression", TARGETS["regression"])
    config = TrainingConfig(network="sklearn.linear_model.Ridge", params={"alpa": 1})
    with pytest.raises(TrainingError, match=r"train\.params: they do not fit Ridge"):
        fit(tmp_path / "features", tmp_path, config)


@pytest.mark.parametrize(("network", "params"), NO_ONNX_FORM.items())
def test_an_estimator_that_cannot_be_served_is_refused_in_one_line(
    features: Path, tmp_path: Path, network: str, params: dict[str, Any]
) -> None:
    message = rf"^train\.network: {network} has no ONNX form, which serving needs .*; choose another estimator\.$"
    with pytest.raises(TrainingError, match=message):
        fit(features, tmp_path / "out", TrainingConfig(network=network, params=params))


def test_it_is_refused_before_all_rows_are_fitted(features: Path, tmp_path: Path) -> None:
    config = TrainingConfig(network=f"{__name__}.Slow")
    with pytest.raises(TrainingError, match="has no ONNX form"):
        fit(features, tmp_path / "out", config)
    assert 0 < Slow.seen <= 100


@pytest.mark.parametrize(
    ("task", "network", "params"), ANOTHER_ANSWER, ids=[row[1].rpartition(".")[2] for row in ANOTHER_ANSWER]
)
def test_params_whose_onnx_form_answers_otherwise_are_refused_before_all_rows_are_fitted(
    tmp_path: Path, task: Task, network: str, params: dict[str, Any]
) -> None:
    rows = weather() if task == "binary_classification" else weather().drop(columns="rain")
    prepare_and_build_features(tmp_path, rows, task, TARGETS[task])
    learner = EstimatorLearner(TrainingConfig(network=network, params=params), FeatureSet.read(tmp_path / "features"))
    run = TrainingRun(LakeCheckpoints(FolderStore(tmp_path), "checkpoints"), timedelta(minutes=1))
    message = rf"^train\.params: {network} answers otherwise with these params in its ONNX form.*; choose other params"
    with pytest.raises(TrainingError, match=message):
        learner.fit(tmp_path / "features", tmp_path, run)
    assert not hasattr(learner.estimator, "classes_" if task == "binary_classification" else "n_features_in_")


def test_probabilities_that_depend_on_params_are_told(features: Path, tmp_path: Path) -> None:
    params = {"estimators": [["a", LOGISTIC]], "voting": "hard"}
    config = TrainingConfig(network="sklearn.ensemble.VotingClassifier", params=params)
    with pytest.raises(
        TrainingError, match=r"^train\.params: .* has no predict_proba with these params; choose params"
    ):
        fit(features, tmp_path / "out", config)


@pytest.mark.parametrize(("task", "network", "params"), NESTED, ids=[row[1].rpartition(".")[2] for row in NESTED])
def test_estimators_are_named_inside_of_params(task: Task, network: str, params: dict[str, Any]) -> None:
    check_learner(TrainingConfig(network=network, params=params), task)


def test_inner_estimators_have_the_seed_and_their_own_params(features: Path) -> None:
    params = {"estimator": {"class": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 2}}}
    config = TrainingConfig(network="sklearn.ensemble.BaggingClassifier", params=params, seed=7)
    inner = EstimatorLearner(config, FeatureSet.read(features)).estimator.estimator
    assert (inner.max_depth, inner.random_state) == (2, 7)


@pytest.mark.parametrize("network", ["RandomForestClassifier", "ExtraTreesClassifier"])
@pytest.mark.parametrize("trees", [1, 2, 3, 5, 10, 19, 20, 21, 37, 50, 60])
def test_probabilities_of_forests_lie_between_0_and_1(features: Path, tmp_path: Path, network: str, trees: int) -> None:
    params = {"n_estimators": trees, "class_weight": "balanced"}
    learner = fit(features, tmp_path / "out", TrainingConfig(network=f"sklearn.ensemble.{network}", params=params))
    x, _ = load_arrays(features, "train")
    offline = learner.predict(np.array(x))
    [served] = OnnxModel(learner.to_onnx().SerializeToString()).predict({"features": np.array(x)}).values()
    for probabilities in (offline, served):
        assert probabilities.min() >= 0
        assert probabilities.max() <= 1
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(served, offline, atol=1e-5)
    assert isinstance(learner, EstimatorLearner)
    of_sklearn = learner.estimator.predict(np.array(x))
    sure = np.abs(offline[:, 1] - 0.5) > 1e-5
    np.testing.assert_array_equal(offline.argmax(axis=1)[sure], of_sklearn[sure])


def test_a_forest_that_is_too_large_to_store_is_told_after_one_tree(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator_learner, "MANY_ROWS", 1_000)
    config = TrainingConfig(network="sklearn.ensemble.RandomForestClassifier", params={"n_estimators": 1_000_000})
    before = time.monotonic()
    with pytest.raises(TrainingError, match=r"1,000,000 trees would take about \d+\.\d GiB, allowed are 2 GiB; lower"):
        fit(features, tmp_path / "out", config)
    assert time.monotonic() - before < 20


def test_a_field_about_networks_is_refused(features: Path) -> None:
    config = TrainingConfig(network="sklearn.linear_model.LogisticRegression", epochs=3)
    with pytest.raises(TrainingError, match=r"^train\.epochs: it is about networks, and this is an estimator; remove"):
        EstimatorLearner(config, FeatureSet.read(features))


@pytest.mark.parametrize("steps", [4, 200], ids=["few values", "many values"])
@pytest.mark.parametrize("name", ["HistGradientBoostingClassifier", "RandomForestClassifier", "ExtraTreesClassifier"])
def test_trees_cut_between_whole_numbers_are_no_other_answer(name: str, steps: int) -> None:
    """A row that a few rows' tree was not fitted on may lie on its cut, where float32 and float64 differ."""
    raw = np.random.default_rng(steps).integers(0, steps, (600, 3)).astype("float64")
    y = (raw[:, 0] + raw[:, 1] > raw[:, 2] + steps / 2).astype("int64")
    x = ((raw - raw.mean(axis=0)) / raw.std(axis=0)).astype("float32")
    names = ("a", "b", "c")
    features = FeatureSet(
        task="binary_classification",
        inputs=tuple(NamedColumn(name=column, type="number") for column in names),
        feature_names=names,
        train_rows=len(x),
        validation_rows=100,
        test_rows=0,
        classes=(0, 1),
        target_mean=0.0,
        target_std=1.0,
        non_finite={},
        rare={},
    )
    learner = EstimatorLearner(TrainingConfig(network=f"sklearn.ensemble.{name}"), features)
    learner._rehearse(x, y)  # pyright: ignore[reportPrivateUsage]
