"""The plots of an evaluation: which there are for which task, and that they are small PNGs, always the same."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.evaluation import plots
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
    drawn = render(*evaluated(task, classes), CURVE)
    assert drawn.keys() == names | {"learning_curve"}
    for png in drawn.values():
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20]) == 420, "the width that Dagster's asset page has room for"


def test_what_is_not_fitted_in_epochs_has_no_learning_curve() -> None:
    assert "learning_curve" not in render(*evaluated("regression", None), LearningCurve())


def test_the_same_evaluation_gives_the_same_bytes() -> None:
    assert render(*evaluated("regression", None), CURVE) == render(*evaluated("regression", None), CURVE)


CLASSES = {
    "two long names": ("a transaction that is legitimate in all ways", "a transaction that is none"),
    "five": ("setosa", "versicolor", "virginica", "another one", "x"),
    "ten long names": tuple(f"Category {index} of the $ big $ list" for index in range(10)),
    "thirty": tuple(f"quite a long name {index}" for index in range(30)),
    "a hundred": tuple(range(100)),
}


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_the_names_on_the_confusion_matrix_do_not_overlap(classes: Classes) -> None:
    report, predictions = evaluated(
        "binary_classification" if len(classes) == 2 else "multiclass_classification", classes
    )
    drawn = list[tuple[list[Any], list[Any]]]()

    def draw(axes: Any) -> None:
        plots._confusion(axes, report, predictions)
        axes.figure.canvas.draw()
        boxes = [[t.get_window_extent() for t in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)]
        drawn.append((boxes[0], boxes[1]))

    plots.png(draw)
    for boxes in drawn[0]:
        assert boxes
        assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


def test_signs_of_formulas_in_names_are_just_signs() -> None:
    report, predictions = evaluated("multiclass_classification", ("$a", "b$", "$c_{$"))
    report = report.model_copy(update={"importance": {"$x": 1.0, "y$^{": 2.0}})
    assert render(report, predictions, CURVE).keys() >= CLASSIFICATION


@pytest.mark.parametrize("truth", [0, 1])
def test_a_test_set_of_one_class_has_its_plots(truth: int) -> None:
    report, predictions = evaluated("binary_classification", ("legit", "fraud"))
    predictions = Predictions(np.full(200, truth), predictions.scores)
    metrics = classification_metrics(predictions.truth, predictions.scores)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert render(report.model_copy(update={"metrics": metrics}), predictions, CURVE).keys() >= CLASSIFICATION


def test_probabilities_beyond_1_by_rounding_are_drawn() -> None:
    report, predictions = evaluated("binary_classification", (False, True))
    scores = predictions.scores.copy()
    scores[0] = (-1.19e-7, 1.0000001)
    assert "calibration" in render(report, Predictions(predictions.truth, scores), CURVE)
