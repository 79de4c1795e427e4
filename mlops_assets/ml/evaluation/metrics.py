"""The metrics by task, as scikit-learn computes them, and which direction of each is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_assets.ml.values import Task

BATCH_ROWS = 16_384
GREATER_IS_BETTER: dict[str, bool] = {
    "mse": False,
    "rmse": False,
    "mae": False,
    "r2": True,
    "accuracy": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "roc_auc": True,
    "pr_auc": True,
    "log_loss": False,
    "brier": False,
}
_CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc", "log_loss", "brier")
OF_THE_POSITIVE = ("precision", "recall", "f1", "roc_auc", "pr_auc", "brier")  # with two classes
METRICS_BY_TASK: dict[Task, tuple[str, ...]] = {
    "regression": ("mse", "rmse", "mae", "r2"),
    "binary_classification": _CLASSIFICATION,
    "multiclass_classification": _CLASSIFICATION,
}


def regression_metrics(truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    """MSE, RMSE, MAE and R2 of predictions of shape (n,). R2 is NaN where the truth does not vary."""
    from sklearn import metrics

    varies = len(truth) > 1 and np.ptp(truth) > 0
    return {
        "mse": float(metrics.mean_squared_error(truth, predicted)),
        "rmse": float(metrics.root_mean_squared_error(truth, predicted)),
        "mae": float(metrics.mean_absolute_error(truth, predicted)),
        "r2": float(metrics.r2_score(truth, predicted)) if varies else float("nan"),
    }


def classification_metrics(truth: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, float]:
    """Metrics of probabilities of shape (n, k) for class indices of shape (n,).

    With two classes they are those of class 1, the positive one. With more, precision, recall, F1, ROC-AUC and PR-AUC
    are macro averages (one class against the rest) over the classes that occur, and the Brier score sums over the
    classes. A metric that is not defined for these rows (ROC-AUC with one class, recall without a positive row) is NaN.
    They are computed class by class and in batches of rows: memory is a small part of that of `probabilities`.
    """
    from sklearn import metrics

    scores: Any = metrics.precision_recall_fscore_support
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1 = (float("nan"),) * 3
    if classes > 2 or np.any(truth == 1):
        average = "binary" if classes == 2 else "macro"
        precision, recall, f1, _ = scores(truth, predicted, average=average, zero_division=0.0)
    of_classes = [
        _of_class(truth == index, probabilities[:, index]) for index in ([1] if classes == 2 else range(classes))
    ]
    roc_auc, pr_auc, brier = np.array(of_classes).T
    return {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "roc_auc": _mean_of_defined(roc_auc),
        "pr_auc": _mean_of_defined(pr_auc),
        "log_loss": _log_loss(truth, probabilities),
        "brier": float(np.sum(brier)),
    }


def _of_class(is_class: NDArray[np.bool_], probability: NDArray[Any]) -> tuple[float, float, float]:
    """ROC-AUC and PR-AUC of a class against the rest, NaN where it is all rows or none, and the Brier score."""
    from sklearn import metrics

    bounded = np.clip(probability, 0, 1)
    brier = float(metrics.brier_score_loss(is_class, bounded, pos_label=True))
    if is_class.all() or not is_class.any():
        return float("nan"), float("nan"), brier
    areas = metrics.roc_auc_score(is_class, bounded), metrics.average_precision_score(is_class, bounded)
    return float(areas[0]), float(areas[1]), brier


def _mean_of_defined(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if len(defined) else float("nan")


def _log_loss(truth: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The mean over all rows, in batches: scikit-learn makes a column for each class of the truth."""
    from sklearn import metrics

    total, labels = 0.0, range(probabilities.shape[1])
    for start in range(0, len(truth), BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        bounded = np.clip(probabilities[part], 0, 1)
        total += float(metrics.log_loss(truth[part], bounded, labels=labels, normalize=False))
    return total / len(truth)


def shown(value: float) -> str:
    """A metric as a reader sees it.

    >>> shown(0.98765), shown(float("nan"))
    ('0.9877', 'not defined')
    """
    return "not defined" if np.isnan(value) else f"{value:.4f}"
