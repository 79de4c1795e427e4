"""Whether a column of a window has drifted from its reference: by the method that Evidently's DataDriftPreset takes.

Of a reference of up to 1,000 values every one is compared, by a test at the level of 0.05; of a larger one a distance,
at the threshold of 0.1. A text is a category, as the contract says, however many there are.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlops_assets.ml.monitoring.column_profile import EXACT_ROWS, NumberProfile
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_assets.ml.monitoring.column_profile import CategoryProfile, ColumnProfile

Method = Literal[
    "K-S p_value",
    "chi-square p_value",
    "Z-test p_value",
    "Wasserstein distance (normed)",
    "Jensen-Shannon distance",
    "share of missing values",
]
MISSING: Method = "share of missing values"
LEVEL, DISTANCE = 0.05, 0.1
FEW_VALUES, SHOWN = 5, 5
EXACT_TEST_ROWS = 10_000  # SciPy computes the K-S test exactly up to here


class ColumnDrift(Value):
    """A column of a window against its reference. `value` is within `error` of that of all values, mostly 0."""

    column: str
    method: Method
    value: float
    error: float = 0.0
    threshold: float
    drifted: bool
    missing: float
    """The share of the window's rows without a value, and that of the reference."""
    reference_missing: float
    outside: float
    """The share of values below the least of the reference or above its greatest, or in no category of it."""
    new: tuple[str, ...] = ()
    """The most frequent categories that the reference does not have."""
    gone: tuple[str, ...] = ()
    """The most frequent categories of the reference that the window does not have."""


def compare(column: str, reference: ColumnProfile, window: ColumnProfile) -> ColumnDrift:
    """The verdict on a column whose reference has values, and whose window is counted in the reference's cells.

    A window without any value, which Evidently refuses, has drifted.
    """
    if not window.rows:
        method, value, error = MISSING, 1.0, 0.0
        found: dict[str, Any] = {"outside": 0.0}
    elif isinstance(reference, NumberProfile):
        assert isinstance(window, NumberProfile)
        method, value, error = _compare_numbers(reference, window)
        found = {"outside": window.outside / window.rows}
    else:
        assert not isinstance(window, NumberProfile)
        method, value, error = _compare_categories(reference, window)
        gone = [name for name, count in zip(reference.names, window.counts, strict=True) if not count]
        # Where the reference has more categories than are kept, nobody knows which ones are new
        new, outside = ((), 0.0) if reference.rest else (tuple(window.new), window.rest / window.rows)
        found = {"outside": outside, "new": new, "gone": tuple(gone[:SHOWN])}
    return ColumnDrift(
        column=column,
        method=method,
        value=value,
        error=error,
        threshold=1.0 if method == MISSING else LEVEL if method.endswith("p_value") else DISTANCE,
        drifted=_drifted(method, value),
        missing=window.missing / (window.missing + window.rows),
        reference_missing=reference.missing / (reference.missing + reference.rows),
        **found,
    )


def method_for(reference_rows: int, values: int, *, is_number: bool) -> Method:
    """The method for a reference of so many values, where it and the window have so many different ones together."""
    if reference_rows > EXACT_ROWS:
        return "Wasserstein distance (normed)" if is_number and values > FEW_VALUES else "Jensen-Shannon distance"
    if is_number and values > FEW_VALUES:
        return "K-S p_value"
    return "chi-square p_value" if values > 2 else "Z-test p_value"


def _drifted(method: Method, value: float) -> bool:
    if method == "K-S p_value":
        return value <= LEVEL
    return value < LEVEL if method.endswith("p_value") else value >= DISTANCE


def _compare_numbers(reference: NumberProfile, window: NumberProfile) -> tuple[Method, float, float]:
    method = method_for(reference.rows, len(reference.edges) + window.others, is_number=True)
    if method == "K-S p_value":
        return method, _kolmogorov_smirnov(reference, window), 0.0
    if method == "Wasserstein distance (normed)":
        distance, error = _wasserstein(reference, window)
        norm = max(reference.std, 0.001)
        return method, distance / norm, error / norm
    return method, *_by_value(method, reference.at, window.at, 0, sum(window.between))


def _compare_categories(reference: CategoryProfile, window: CategoryProfile) -> tuple[Method, float, float]:
    values = len(reference.names) + reference.others + window.others
    method = method_for(reference.rows, values, is_number=False)
    return method, *_by_value(method, reference.counts, window.counts, reference.rest, window.rest)


def _by_value(
    method: Method, reference: Sequence[int], window: Sequence[int], rest: int, window_rest: int
) -> tuple[float, float]:
    """The value of a method by counts of values; the rests are the rows of all others."""
    old, now = np.array(reference, float), np.array(window, float)
    if method == "Jensen-Shannon distance":
        return _jensen_shannon(old, now, rest, window_rest)
    if method == "Z-test p_value":
        return _z_test(old, now, window_rest), 0.0
    return _chi_square(old, now, window_rest), 0.0


def _kolmogorov_smirnov(reference: NumberProfile, window: NumberProfile) -> float:
    """The test needs the order of values alone: each stands for its cell."""
    from scipy import stats

    old, now = _cells(reference), _cells(window)
    if max(reference.rows, window.rows) <= EXACT_TEST_ROWS:
        places = np.arange(len(old))
        with warnings.catch_warnings(action="ignore"):  # where the exact test is too large, the other one is taken
            found: Any = stats.ks_2samp(np.repeat(places, old), np.repeat(places, now))
            return float(found.pvalue)
    most = np.abs(np.cumsum(old) / reference.rows - np.cumsum(now) / window.rows).max()
    size = reference.rows * window.rows / (reference.rows + window.rows)
    return float(np.clip(stats.kstwo.sf(most, np.round(size)), 0, 1))


def _cells(profile: NumberProfile) -> Any:
    """The counts below the first edge, on it, between it and the next one, and so on."""
    cells = np.zeros(2 * len(profile.edges) + 1, np.int64)
    cells[::2], cells[1::2] = profile.between, profile.at
    return cells


def _chi_square(old: Any, now: Any, new: int) -> float:
    from scipy import stats

    if new:  # a value that is not expected at all
        return 0.0
    return float(stats.chisquare(now, old * (now.sum() / old.sum())).pvalue)


def _z_test(old: Any, now: Any, new: int) -> float:
    """The test of two shares: of the first value of the reference."""
    from scipy import stats

    rows, rows_now = old.sum(), now.sum() + new
    share, share_now = old[0] / rows, now[0] / rows_now
    pooled = (old[0] + now[0]) / (rows + rows_now)
    if pooled == 1:  # the only value there is
        return 1.0
    z = (share - share_now) / math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / rows_now))
    return float(2 * (1 - stats.norm.cdf(abs(z))))


def _jensen_shannon(old: Any, now: Any, rest: int, new: int) -> tuple[float, float]:
    """The middle of what it can be, and how far it can be from there.

    The rests are apart where one of them is empty. Else they are alike at best, and have no value in common at worst.
    """
    from scipy.spatial import distance

    together = distance.jensenshannon(np.append(old, rest), np.append(now, new))
    apart = distance.jensenshannon(np.append(old, (rest, 0)), np.append(now, (0, new)))
    return float((together + apart) / 2), float((apart - together) / 2)


def _wasserstein(reference: NumberProfile, window: NumberProfile) -> tuple[float, float]:
    """The area between the distribution functions: the middle of what it can be, and how far it can be from there.

    In a cell both functions are known at its ends, and so is the area below each of them. Where they do not cross in
    it, the area between them is the difference of the two.
    """
    edges = np.array(reference.edges)
    widths = np.diff(edges)
    starts, ends, below = list[Any](), list[Any](), list[Any]()
    for profile in (reference, window):
        heights = np.cumsum(_cells(profile)) / profile.rows
        starts.append(heights[1:-2:2])
        ends.append(heights[2:-1:2])
        below.append(widths * starts[-1] + np.array(profile.areas[1:-1]) / profile.rows)
    least = np.abs(below[0] - below[1])
    crosses = (starts[0] < ends[1]) & (starts[1] < ends[0])
    together = below[0] + below[1]
    over, under = together - 2 * widths * np.minimum(*starts), 2 * widths * np.maximum(*ends) - together
    most = np.where(crosses, np.maximum(np.minimum(over, under), least), least)
    outer = sum(abs(reference.areas[end] / reference.rows - window.areas[end] / window.rows) for end in (0, -1))
    return float((least + most).sum() / 2 + outer), float((most - least).sum() / 2)
