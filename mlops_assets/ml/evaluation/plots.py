"""The plots of an evaluation, as PNGs."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.evaluation.metrics import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mlops_assets.ml.evaluation.evaluate import EvaluationReport, Predictions
    from mlops_assets.ml.training.learner import LearningCurve

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#9ca3af"
SCATTERED = 5_000
SHOWN_CLASSES, MOST_NAMES = 10, 20
LEGEND_LETTERS, TICK_LETTERS, LETTERS_SIDE_BY_SIDE = 24, 16, 30


def render(report: EvaluationReport, predictions: Predictions, curve: LearningCurve) -> dict[str, bytes]:
    """PNG by name: what fits the task of learning_curve, roc, precision_recall, calibration, confusion_matrix,
    residuals and permutation_importance."""
    plots = dict[str, bytes]()
    if curve.points:
        plots["learning_curve"] = png(lambda axes: _learning_curve(axes, curve))
    if report.task == "regression":
        plots["residuals"] = png(lambda axes: _residuals(axes, predictions))
    else:
        plots["roc"] = png(lambda axes: _roc(axes, report, predictions))
        plots["precision_recall"] = png(lambda axes: _precision_recall(axes, report, predictions))
        plots["calibration"] = png(lambda axes: _calibration(axes, report, predictions))
        plots["confusion_matrix"] = png(lambda axes: _confusion(axes, report, predictions))
    plots["permutation_importance"] = png(lambda axes: _importance(axes, report))
    return plots


def scores_of_both(pairs: Sequence[tuple[float, float]]) -> bytes:
    """The scores of the champion and of a candidate for the same rows, as a PNG."""
    return png(lambda axes: _both(axes, np.array(pairs)))


def _both(axes: Any, pairs: NDArray[Any]) -> None:
    ends = [float(pairs.min()), float(pairs.max())]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.scatter(pairs[:, 0], pairs[:, 1], s=8, color=BLUE, alpha=0.4, linewidths=0)
    axes.set(title=f"Scores of {len(pairs)} rows", xlabel="champion", ylabel="this version")


def png(draw: Callable[[Any], None]) -> bytes:
    """A plot of the size that Dagster's page of an asset has room for."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # 420 pixels wide: what Dagster's asset page has room for
    with rc_context({"font.size": 8, "text.parse_math": False}):  # names may have dollar signs
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


def _shown_classes(report: EvaluationReport, predictions: Predictions) -> list[tuple[int, str]]:
    """The positive one of two classes, or the first of several, where there are rows with it and without it."""
    classes = report.classes or ()
    indices = [1] if report.positive is not None else range(len(classes))
    varied = [index for index in indices if 0 < np.mean(predictions.truth == index) < 1]
    return [(index, shortened(classes[index], LEGEND_LETTERS)) for index in varied][:SHOWN_CLASSES]


def _legend(axes: Any, place: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc=place)
    else:
        axes.text(0.5, 0.5, "not defined: all rows are of one class", ha="center", transform=axes.transAxes)


def shortened(name: object, letters: int) -> str:
    """A name in so many letters at most, of which the beginning and the end are left: names often differ in one.

    >>> shortened("New York, Manhattan", 11)
    'New ...ttan'
    """
    text, half = str(name), (letters - 3) // 2
    return text if len(text) <= letters else f"{text[:half]}...{text[-half:]}"


def _roc(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    from sklearn.metrics import roc_curve

    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    for index, name in _shown_classes(report, predictions):
        false_rate, true_rate, _ = roc_curve(predictions.truth == index, predictions.scores[:, index])
        axes.plot(false_rate, true_rate, label=name, **_style(report))
    axes.set(
        title=f"ROC, area {shown(report.metrics['roc_auc'])}", xlabel="false positive rate", ylabel="true positive rate"
    )
    _legend(axes, "lower right")


def _precision_recall(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    from sklearn.metrics import precision_recall_curve

    for index, name in _shown_classes(report, predictions):
        precision, recall, _ = precision_recall_curve(predictions.truth == index, predictions.scores[:, index])
        axes.plot(recall, precision, label=name, **_style(report))
        if report.positive is not None:
            rate = float(np.mean(predictions.truth == index))
            axes.axhline(rate, color=GREY, linestyle=":", label=f"always {name}")
    axes.set(title=f"Precision and recall, area {shown(report.metrics['pr_auc'])}", xlabel="recall", ylabel="precision")
    axes.set_ylim(0, 1.03)
    _legend(axes, "lower left")


def _calibration(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    from sklearn.calibration import calibration_curve

    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    for index, name in _shown_classes(report, predictions):
        observed, stated = calibration_curve(
            predictions.truth == index, np.clip(predictions.scores[:, index], 0, 1), n_bins=10
        )
        axes.plot(stated, observed, marker="o", label=name, **_style(report))
    axes.set(
        title=f"Calibration, Brier score {shown(report.metrics['brier'])}",
        xlabel="predicted probability",
        ylabel="observed share",
    )
    _legend(axes, "upper left")


def _confusion(axes: Any, report: EvaluationReport, predictions: Predictions) -> None:
    from sklearn.metrics import confusion_matrix

    classes = report.classes or ()
    counts = confusion_matrix(predictions.truth, predictions.scores.argmax(axis=1), labels=range(len(classes)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= SHOWN_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            share = f"{shares[row, column]:.0%}" if count else ""
            text = f"{count:,}\n{shares[row, column]:.1%}" if len(classes) <= 4 else share
            color = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8 if len(classes) <= 6 else 6)
    # As many names as have room beside each other, upright where they are short
    named = range(0, len(classes), math.ceil(len(classes) / MOST_NAMES))
    names = [shortened(classes[index], TICK_LETTERS) for index in named]
    size = 8 if len(names) <= 6 else 6
    is_narrow = max(map(len, names), default=0) * len(names) <= LETTERS_SIDE_BY_SIDE
    axes.set_xticks(named, names, fontsize=size, rotation=0 if is_narrow else 90)
    axes.set_yticks(named, names, fontsize=size)
    axes.set(title=f"Confusion, accuracy {shown(report.metrics['accuracy'])}", xlabel="predicted", ylabel="true")


def _residuals(axes: Any, predictions: Predictions) -> None:
    truth, predicted = _scattered(predictions)
    axes.scatter(predicted, truth - predicted, s=6, alpha=0.35, color=BLUE, linewidths=0)
    axes.axhline(0, color=GREY, linestyle=":")
    axes.set(title="Residuals", xlabel="predicted", ylabel="true - predicted")


def _scattered(predictions: Predictions) -> tuple[NDArray[Any], NDArray[Any]]:
    chosen = np.random.default_rng(0).permutation(len(predictions.truth))[:SCATTERED]
    return predictions.truth[chosen], predictions.scores[chosen]


def _importance(axes: Any, report: EvaluationReport) -> None:
    ordered = sorted(report.importance.items(), key=lambda item: item[1])[-MOST_NAMES:]
    places = range(len(ordered))
    axes.barh(places, [value for _, value in ordered], color=BLUE)
    names = [shortened(name, LEGEND_LETTERS) for name, _ in ordered]
    axes.set_yticks(places, names, fontsize=8 if len(names) <= 12 else 6)
    loss = "RMSE" if report.task == "regression" else "log loss"
    axes.set(title="Permutation importance", xlabel=f"increase of {loss} when shuffled")


def _style(report: EvaluationReport) -> dict[str, Any]:
    return {"color": BLUE} if report.positive is not None else {}
