"""The plot of a drift report: how far each column is from its threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.evaluation.plots import BLUE, GREY, LEGEND_LETTERS, MOST_NAMES, ORANGE, png, shortened

if TYPE_CHECKING:
    from mlops_assets.ml.monitoring.column_drift import ColumnDrift
    from mlops_assets.ml.monitoring.drift_report import DriftReport

FARTHEST = 5.0  # thresholds; beyond it bars say nothing more


def drift_plot(report: DriftReport) -> bytes:
    """A PNG with a bar for each of the 20 most important inputs, and for the answers."""
    return png(lambda axes: _draw(axes, report))


def severity(column: ColumnDrift) -> float:
    """How far a column has gone in thresholds: 1 is at it. Of p-values the logarithm counts, since less is more there.

    >>> from mlops_assets.ml.monitoring.column_drift import ColumnDrift
    >>> drift = dict(column="x", drifted=True, missing=0, reference_missing=0, outside=0)
    >>> severity(ColumnDrift(method="Jensen-Shannon distance", value=0.2, threshold=0.1, **drift))
    2.0
    >>> round(severity(ColumnDrift(method="K-S p_value", value=0.0025, threshold=0.05, **drift)), 6)
    2.0
    """
    if column.method.endswith("p_value"):
        return math.log(max(column.value, 1e-300)) / math.log(column.threshold)
    return column.value / column.threshold


def _draw(axes: Any, report: DriftReport) -> None:
    ordered = sorted(report.columns, key=lambda column: report.importance[column.column])[-MOST_NAMES:]
    bars = [*report.predictions, *ordered]
    names = [f"answer: {column.column}" for column in report.predictions] + [
        f"{shortened(column.column, LEGEND_LETTERS)} ({report.importance[column.column]:.0%})" for column in ordered
    ]
    widths = [min(severity(column), FARTHEST) for column in bars]
    axes.barh(range(len(bars)), widths, color=[ORANGE if column.drifted else BLUE for column in bars])
    axes.axvline(1, color=GREY, linestyle=":")
    axes.set_yticks(range(len(bars)), names, fontsize=8 if len(bars) <= 12 else 6)
    axes.set(title=f"Drift score {report.score:.2f}", xlabel="thresholds of the column's method")
    axes.set_xlim(0, max(1.2, *widths))
