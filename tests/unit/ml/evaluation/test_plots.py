"""The plots of an evaluation: which there are for which task, and that they are small PNGs, always the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlops_assets.ml.evaluation.evaluate import EvaluationReport, Predictions
from mlops_assets.ml.evaluation.metrics import classification_metrics, regression_metrics
from mlops_assets.ml.evaluation.plots import render
from mlops_assets.ml.training.learner import EpochMetrics, LearningCurve

if TYPE_CHECKING:
    from mlops_assets.ml.values import Classes, Task

CURVE = LearningCurve(points=tuple(EpochMetrics(epoch=e, train_loss=1 / e, validation_loss=1.1 / e) for e in (1, 2, 3)))
CLASSIFICATION = {"roc", "precision_recall", "calibration", "confusion_matrix", "permutation_importance"}
CASES: list[tuple[Task, Classes | None, set[str]]] = [
    ("regression", None, {"residuals", "permutation_importance"}),
    ("binary_classification", (False, True), CLASSIFICATION),
    ("multiclass_classification", ("low", "mid", "high"), CLASSIFICATION),
]


def evaluated(task: Task, classes: Classes | None) -> tuple[EvaluationReport, Predictions]:
    generator = np.random.default_rng(0)
    if classes is None:
        truth = generator.normal(size=200)
        predictions = Predictions(truth, (truth + generator.normal(0, 0.1, 200)).astype(np.float32))
        metrics = regression_metrics(truth, predictions.scores)
    else:
        truth = generator.integers(0, len(classes), 200)
        predictions = Predictions(truth, generator.dirichlet(np.ones(len(classes)), 200).astype(np.float32))
        metrics = classification_metrics(truth, predictions.scores)
    importance = {"pressure": 0.3, "place": -0.01}
    report = EvaluationReport(task=task, classes=classes, rows=200, metrics=metrics, slices=(), importance=importance)
    return report, predictions


@pytest.mark.parametrize(("task", "classes", "names"), CASES, ids=[case[0] for case in CASES])
def test_each_task_has_its_plots(task: Task, classes: Classes | None, names: set[str]) -> None:
    plots = render(*evaluated(task, classes), CURVE)
    assert plots.keys() == names | {"learning_curve"}
    for png in plots.values():
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20]) == 420, "the width that Dagster's asset page has room for"


def test_what_is_not_fitted_in_epochs_has_no_learning_curve() -> None:
    assert "learning_curve" not in render(*evaluated("regression", None), LearningCurve())


def test_the_same_evaluation_gives_the_same_bytes() -> None:
    assert render(*evaluated("regression", None), CURVE) == render(*evaluated("regression", None), CURVE)
