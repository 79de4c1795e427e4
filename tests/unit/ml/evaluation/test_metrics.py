"""The metrics against scikit-learn's, and where they are not defined."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mlops_assets.ml.evaluation import metrics as module
from mlops_assets.ml.evaluation.metrics import METRICS_BY_TASK, classification_metrics, regression_metrics


@given(rows=st.integers(2, 200), seed=st.integers(0, 10_000))
def test_regression_equals_scikit_learn(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, predicted = generator.normal(size=rows), generator.normal(size=rows).astype(np.float32)
    found = regression_metrics(truth, predicted)
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(truth, predicted))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, predicted))


@settings(max_examples=40)
@given(rows=st.integers(12, 200), classes=st.integers(2, 4), seed=st.integers(0, 10_000))
def test_classification_equals_scikit_learn(rows: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), generator.integers(0, classes, rows - classes)])
    probabilities = generator.dirichlet(np.ones(classes), rows).astype(np.float32)
    predicted = probabilities.argmax(axis=1)
    found = classification_metrics(truth, probabilities)
    average = "binary" if classes == 2 else "macro"
    assert tuple(found) == METRICS_BY_TASK["binary_classification"]
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    for name, score in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        assert found[name] == pytest.approx(score(truth, predicted, average=average, zero_division=0))
    exact = probabilities.astype(float) / probabilities.astype(float).sum(axis=1, keepdims=True)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, exact), rel=1e-4)
    if classes == 2:
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, probabilities[:, 1]))
        assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth, probabilities[:, 1]))
        assert found["pr_auc"] == pytest.approx(metrics.average_precision_score(truth, probabilities[:, 1]))
    else:
        wanted = metrics.roc_auc_score(truth, exact, multi_class="ovr", average="macro")
        assert found["roc_auc"] == pytest.approx(wanted, rel=1e-4)


def test_what_is_not_defined_is_nan_and_not_an_error() -> None:
    found = classification_metrics(np.zeros(5, dtype=int), np.tile([0.9, 0.1], (5, 1)))
    undefined = ["precision", "recall", "f1", "roc_auc", "pr_auc"]
    assert [name for name, value in found.items() if math.isnan(value)] == undefined
    assert found["accuracy"] == 1
    assert math.isnan(regression_metrics(np.ones(4), np.ones(4))["r2"])
    assert math.isnan(regression_metrics(np.ones(1), np.zeros(1))["r2"])


def test_a_class_that_does_not_occur_does_not_count_among_many() -> None:
    truth = np.array([0, 0, 1, 1, 0, 1])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 6).astype(np.float32)
    found = classification_metrics(truth, probabilities)
    areas = [metrics.roc_auc_score(truth == index, probabilities[:, index]) for index in (0, 1)]
    assert found["roc_auc"] == pytest.approx(np.mean(areas))


def test_a_rounding_error_beyond_0_and_1_changes_no_metric() -> None:
    truth = np.array([0, 1, 1])
    found = classification_metrics(truth, np.array([[1.0000001, -1e-7], [0.25, 0.75], [-1e-7, 1.0000001]], np.float32))
    assert found["brier"] == pytest.approx(0.25**2 / 3)
    assert found["log_loss"] == pytest.approx(-np.log(0.75) / 3, rel=1e-5)


def test_of_several_classes_the_brier_score_is_the_sum_and_batches_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(0, 5, 300), generator.dirichlet(np.ones(5), 300).astype(np.float32)
    whole = classification_metrics(truth, probabilities)
    assert whole["brier"] == pytest.approx(np.mean(((probabilities - np.eye(5)[truth]) ** 2).sum(axis=1)), rel=1e-5)
    monkeypatch.setattr(module, "BATCH_ROWS", 7)
    assert classification_metrics(truth, probabilities) == pytest.approx(whole)


def test_a_hundred_classes_take_little_memory() -> None:
    generator = np.random.default_rng(0)
    rows, classes = 100_000, 100
    truth = generator.integers(0, classes, rows)
    probabilities = generator.random((rows, classes), dtype=np.float32)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classification_metrics(truth[:200], probabilities[:200])
    tracemalloc.start()
    classification_metrics(truth, probabilities)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * probabilities.nbytes, f"{peak >> 20} MiB beside {probabilities.nbytes >> 20} MiB"
