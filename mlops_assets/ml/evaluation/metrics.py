"""The metrics by task, and which direction of each is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_assets.ml.values import Task

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
METRICS_BY_TASK: dict[Task, tuple[str, ...]] = {
    "regression": ("mse", "rmse", "mae", "r2"),
    "binary_classification": _CLASSIFICATION,
    "multiclass_classification": _CLASSIFICATION,
}


def regression_metrics(truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    """MSE, RMSE, MAE and R2 of predictions of shape (n,)."""
    error = predicted.astype(np.float64) - truth.astype(np.float64)
    mse = float(np.mean(error**2))
    variance = float(np.var(truth.astype(np.float64)))
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "mae": float(np.mean(np.abs(error))),
        "r2": 1 - mse / variance if variance else float("nan"),
    }


def classification_metrics(truth: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, float]:
    """Metrics of probabilities of shape (n, k) for class indices of shape (n,).

    With two classes they are those of class 1. With more, precision, recall, F1, ROC-AUC and PR-AUC are macro
    averages (one class against the rest) over the classes that occur, and the Brier score sums over the classes. A
    metric that is not defined for these rows (ROC-AUC with one class) is NaN.
    """
    from sklearn import metrics

    scores: Any = metrics.precision_recall_fscore_support

    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    average = "binary" if classes == 2 else "macro"
    precision, recall, f1, _ = scores(truth, predicted, average=average, zero_division=0.0)
    onehot = np.eye(classes)[truth]
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1.0)
    squared = (probabilities.astype(np.float64) - onehot) ** 2
    return {
        "accuracy": float(np.mean(predicted == truth)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "roc_auc": _one_against_rest(metrics.roc_auc_score, onehot, probabilities),
        "pr_auc": _one_against_rest(metrics.average_precision_score, onehot, probabilities),
        "log_loss": float(-np.mean(np.log(clipped[np.arange(len(truth)), truth] / clipped.sum(axis=1)))),
        "brier": float(np.mean(squared[:, 1])) if classes == 2 else float(np.mean(squared.sum(axis=1))),
    }


def _one_against_rest(score: Any, onehot: NDArray[Any], probabilities: NDArray[Any]) -> float:
    columns = [1] if onehot.shape[1] == 2 else range(onehot.shape[1])
    scores = [
        float(score(onehot[:, column], probabilities[:, column]))
        for column in columns
        if 0 < onehot[:, column].sum() < len(onehot)
    ]
    return float(np.mean(scores)) if scores else float("nan")
