"""The plots of an evaluation, as PNGs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mlops_assets.ml.evaluation.evaluate import EvaluationReport, Predictions
    from mlops_assets.ml.training.learner import LearningCurve

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#9ca3af"
SCATTERED = 5_000


def render(report: EvaluationReport, predictions: Predictions, curve: LearningCurve) -> dict[str, bytes]:
    """PNG by name: what fits the task of learning_curve, roc, precision_recall, calibration, confusion_matrix,
    residuals and permutation_importance."""
    plots = dict[str, bytes]()
    if curve.points:
        plots["learning_curve"] = _png(lambda axes: _learning_curve(axes, curve))
    if report.task == "regression":
        plots["residuals"] = _png(lambda axes: _residuals(axes, predictions))
    else:
        plots["roc"] = _png(lambda axes: _roc(axes, report, predictions))
        plots["precision_recall"] = _png(lambda axes: _precision_recall(axes, report, predictions))
        plots["calibration"] = _png(lambda axes: _calibration(axes, report, predictions))
        plots["confusion_matrix"] = _png(lambda axes: _confusion(axes, report, predictions))
    plots["permutation_importance"] = _png(lambda axes: _importance(axes, report))
    return plots


def _png(draw: Callable[[Any], None]) -> bytes:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # 420 pixels wide: what Dagster's asset page has room for
    with rc_context({"font.size": 8}):
        figure = Figure(figsize=(4.2, 3.2), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        target = io.BytesIO()
        figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def _learning_curve(axes: Any, curve: LearningCurve) -> None:
    epochs = [point.epoch for point in curve.points]
    axes.plot(epochs, [point.train_loss for point in curve.points], color=BLUE, marker=".", label="train")
    axes.plot(epochs, [point.validation_loss for point in curve.points], color=ORANGE, marker=".", label="validation")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss")
    axes.legend(frameon=False)


def _shown_classes(report: EvaluationReport) -> list[tuple[int, str]]:
    classes = report.classes or ()
    if len(classes) == 2:
        return [(1, str(classes[1]))]
    return [(index, str(value)) for index, value in enumerate(classes)][:10]


def _roc(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    from sklearn.metrics import roc_curve

    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    for index, name in _shown_classes(report):
        false_rate, true_rate, _ = roc_curve(predictions.truth == index, predictions.scores[:, index])
        axes.plot(false_rate, true_rate, label=name, **_style(report))
    axes.set(
        title=f"ROC, area {report.metrics['roc_auc']:.4f}", xlabel="false positive rate", ylabel="true positive rate"
    )
    axes.legend(frameon=False, loc="lower right")


def _precision_recall(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    from sklearn.metrics import precision_recall_curve

    for index, name in _shown_classes(report):
        precision, recall, _ = precision_recall_curve(predictions.truth == index, predictions.scores[:, index])
        axes.plot(recall, precision, label=name, **_style(report))
        if len(report.classes or ()) == 2:
            rate = float(np.mean(predictions.truth == index))
            axes.axhline(rate, color=GREY, linestyle=":", label=f"always {name}")
    axes.set(title=f"Precision and recall, area {report.metrics['pr_auc']:.4f}", xlabel="recall", ylabel="precision")
    axes.set_ylim(0, 1.03)
    axes.legend(frameon=False, loc="lower left")


def _calibration(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    from sklearn.calibration import calibration_curve

    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    for index, name in _shown_classes(report):
        observed, stated = calibration_curve(predictions.truth == index, predictions.scores[:, index], n_bins=10)
        axes.plot(stated, observed, marker="o", label=name, **_style(report))
    axes.set(
        title=f"Calibration, Brier score {report.metrics['brier']:.4f}",
        xlabel="predicted probability",
        ylabel="observed share",
    )
    axes.legend(frameon=False, loc="upper left")


def _confusion(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    classes = report.classes or ()
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (predictions.truth, predictions.scores.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 10:
        for (row, column), count in np.ndenumerate(counts):
            text = f"{count:,}\n{shares[row, column]:.1%}"
            axes.text(
                column, row, text, ha="center", va="center", color="white" if shares[row, column] > 0.55 else "black"
            )
        names = [str(value) for value in classes]
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
    axes.set(title=f"Confusion, accuracy {report.metrics['accuracy']:.4f}", xlabel="predicted", ylabel="true")


def _residuals(axes: Any, predictions: Predictions) -> None:
    truth, predicted = _scattered(predictions)
    axes.scatter(predicted, truth - predicted, s=6, alpha=0.35, color=BLUE, linewidths=0)
    axes.axhline(0, color=GREY, linestyle=":")
    axes.set(title="Residuals", xlabel="predicted", ylabel="true - predicted")


def _scattered(predictions: Predictions) -> tuple[NDArray[Any], NDArray[Any]]:
    chosen = np.random.default_rng(0).permutation(len(predictions.truth))[:SCATTERED]
    return predictions.truth[chosen], predictions.scores[chosen]


def _importance(axes: Any, report: EvaluationReport) -> None:
    ordered = sorted(report.importance.items(), key=lambda item: item[1])[-20:]
    axes.barh([name for name, _ in ordered], [value for _, value in ordered], color=BLUE)
    loss = "RMSE" if report.task == "regression" else "log loss"
    axes.set(title="Permutation importance", xlabel=f"increase of {loss} when shuffled")


def _style(report: EvaluationReport) -> dict[str, Any]:
    return {"color": BLUE} if len(report.classes or ()) == 2 else {}
