"""Draws how a model was doing day by day: the drift of its inputs, how good it was, and which version answered."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_assets.ml.evaluation.plots import BLUE, GREY, ORANGE, png

if TYPE_CHECKING:
    from collections.abc import Sequence


class DayPassed(NamedTuple):
    """A day: its name, the version that answered, the drift score, and the metric of the rows that have a label."""

    name: str
    version: str
    score: float | None
    metric: float | None


def timeline_plot(days: Sequence[DayPassed], threshold: float, metric: str) -> bytes:
    """A PNG: bars for the score, orange above `threshold`, a line for the metric, a mark where the version changes."""
    return png(lambda axes: _draw(axes, days, threshold, metric))


def _draw(axes: Any, days: Sequence[DayPassed], threshold: float, metric: str) -> None:
    places = range(len(days))
    scores = [day.score or 0.0 for day in days]
    axes.bar(places, scores, color=[ORANGE if score > threshold else BLUE for score in scores], label="drift score")
    axes.axhline(threshold, color=GREY, linestyle=":", label=f"threshold {threshold:g}")
    values = [float("nan") if day.metric is None else day.metric for day in days]
    axes.plot(places, values, color="black", marker="o", label=metric)
    for place, (before, after) in enumerate(itertools.pairwise(days)):
        if before.version != after.version:
            axes.axvline(place + 0.5, color=GREY)
            axes.text(place + 0.55, 1.06, f"version {after.version}", fontsize=8)
    axes.set_xticks(places, [day.name for day in days], rotation=60, ha="right", fontsize=8)
    axes.set(title="Drift, and what the labels say", ylim=(0, 1.15))
    axes.legend(fontsize=8, loc="center left")
