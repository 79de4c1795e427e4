"""The picture of days that have passed."""

from __future__ import annotations

import io
from typing import Any

import pytest

from mlops_assets.ml.monitoring.drift_timeline import DayPassed, timeline_plot

DAYS = [
    DayPassed("1 Jan", "1", None, None),
    DayPassed("2 Jan", "1", 0.1, 0.9),
    DayPassed("3 Jan", "1", 0.7, 0.8),
    DayPassed("4 Jan", "2", 0.2, 0.95),
]


def pixels(days: list[DayPassed], threshold: float) -> Any:
    from matplotlib.image import imread

    return imread(io.BytesIO(timeline_plot(days, threshold, "ROC AUC")), format="png")


@pytest.mark.parametrize("days", [[], DAYS[:1], DAYS])
def test_it_is_a_picture_of_any_number_of_days(days: list[DayPassed]) -> None:
    height, width, _ = pixels(days, 0.3).shape
    assert (width, height) == (420, 320)


def test_days_above_the_threshold_have_another_colour() -> None:
    assert (pixels(DAYS, 0.3) != pixels(DAYS, 0.8)).any()
