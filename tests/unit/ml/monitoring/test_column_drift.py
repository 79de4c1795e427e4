"""The verdict on a column: that of Evidently's DataDriftPreset on the same rows, by the same method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.monitoring.column_drift import compare
from mlops_assets.ml.monitoring.column_profile import (
    MAX_CATEGORIES,
    CategoryTally,
    EdgeFinder,
    NumberProfile,
    NumberTally,
    category_profile,
)

if TYPE_CHECKING:
    from mlops_assets.ml.monitoring.column_drift import ColumnDrift

EDGES = 512
NUMBERS = ("normal", "heavy tails", "whole", "boolean", "constant")
TEXTS = ("few", "two", "many", "one")


def reference_and_window(reference: pd.Series, window: pd.Series) -> ColumnDrift:
    """Our verdict, from profiles alone; the reference's has been a file in between."""
    if pd.api.types.is_numeric_dtype(reference):
        finder = EdgeFinder(EDGES)
        finder.add(reference.to_numpy(np.float32))
        old, now = NumberTally(finder.edges()), NumberTally(finder.edges())
        old.add(reference.to_numpy(np.float32))
        now.add(window.to_numpy(np.float32))
        stored = NumberProfile.model_validate_json(old.profile().model_dump_json())
        return compare("x", stored, now.profile())
    counts = reference.value_counts()
    kept = dict(counts.head(MAX_CATEGORIES).items())
    profile = category_profile(kept, int(reference.isna().sum()), int(counts.sum()), len(counts))
    tally = CategoryTally(profile.names)
    tally.add(pa.array(window.tolist(), pa.string()))
    return compare("x", profile, tally.profile())


def evidently(reference: pd.Series, window: pd.Series) -> tuple[str, float, bool]:
    """Method, value and verdict of the preset itself."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    is_number = pd.api.types.is_numeric_dtype(reference)
    definition = DataDefinition(**{"numerical_columns" if is_number else "categorical_columns": ["x"]})
    old, now = (Dataset.from_pandas(pd.DataFrame({"x": part}), definition) for part in (reference, window))
    found = Report([DataDriftPreset()], include_tests=True).run(now, old).dict()
    [metric] = [item for item in found["metrics"] if "ValueDrift" in item["metric_name"]]
    [test] = [item for item in found["tests"] if "Value Drift" in item["name"]]
    return metric["config"]["method"], float(metric["value"]), test["status"] == "FAIL"


def values(kind: str, rows: int, shift: float, generator: np.random.Generator) -> pd.Series:
    """Random values of a kind; `shift` moves what they are drawn from."""
    made: dict[str, Any] = {
        "normal": lambda: generator.normal(shift, 1 + shift, rows),
        "heavy tails": lambda: generator.standard_cauchy(rows) * (1 + shift),
        "whole": lambda: generator.integers(0, 4 + int(10 * shift), rows).astype(float),
        "boolean": lambda: (generator.random(rows) < 0.3 + shift).astype(float),
        "constant": lambda: np.full(rows, 5.0 + (shift > 0.2)),
        "few": lambda: generator.choice(list("abcd"[: 3 + (shift > 0.2)]), rows),
        "two": lambda: generator.choice(["a", "b"], rows, p=[0.3 + shift, 0.7 - shift]),
        "many": lambda: generator.integers(0, 400 + int(100 * shift), rows).astype(str),
        "one": lambda: np.full(rows, "b" if shift > 0.2 else "a"),
    }
    found = made[kind]()
    return pd.Series(found.astype(np.float32).astype(float) if kind in NUMBERS else found.astype(object))


def with_gaps(column: pd.Series, share: float, generator: np.random.Generator) -> pd.Series:
    """The column without some of its values; the first one stays."""
    gone = generator.random(len(column)) < share
    gone[0] = False
    return column.mask(gone, np.nan if pd.api.types.is_numeric_dtype(column) else None)


@settings(max_examples=120)
@given(
    st.sampled_from(NUMBERS + TEXTS),
    st.sampled_from([20, 300, 1_000, 1_001, 3_000]),
    st.sampled_from([1, 3, 50, 600, 3_000, 12_000]),
    st.sampled_from([0.0, 0.05, 0.1, 0.3]),
    st.sampled_from([0.0, 0.0, 0.1]),
    st.integers(0, 10_000),
)
def test_the_verdict_is_evidentlys_on_the_same_rows(
    kind: str, reference_rows: int, window_rows: int, shift: float, gaps: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    reference = with_gaps(values(kind, reference_rows, 0.0, generator), gaps, generator)
    window = with_gaps(values(kind, window_rows, shift, generator), gaps, generator)
    ours, (method, value, has_drifted) = reference_and_window(reference, window), evidently(reference, window)
    assert ours.method == method
    assert ours.value == pytest.approx(value, abs=ours.error + 1e-6)
    assert ours.drifted == has_drifted or abs(ours.value - ours.threshold) <= ours.error


def test_a_profile_of_quantiles_bounds_its_own_error() -> None:
    generator = np.random.default_rng(1)
    reference, window = (pd.Series(generator.normal(0, 1, 50_000).astype(np.float32)) for _ in range(2))
    ours = reference_and_window(reference, window)
    assert 0 < ours.error < 0.005
    assert ours.value == pytest.approx(evidently(reference, window)[1], abs=ours.error)


def test_values_near_the_end_of_float32_are_compared_as_well() -> None:
    generator = np.random.default_rng(1)
    reference, window = (pd.Series(1e38 * generator.normal(0, 1, 3_000).clip(-3, 3)) for _ in range(2))
    assert not reference_and_window(reference, window).drifted
    assert reference_and_window(reference, window * 0.5).value == pytest.approx(0.4, abs=0.05)


def test_a_shift_that_no_value_crosses_is_measured_exactly() -> None:
    reference = pd.Series(np.random.default_rng(1).uniform(0, 1, 20_000).astype(np.float32))
    ours = reference_and_window(reference, reference + 2)
    assert ours.value == pytest.approx(2 / reference.std(ddof=0), rel=1e-5)
    assert (ours.error, ours.outside) == (0, 1)


def test_more_categories_than_are_kept_give_a_value_with_its_error() -> None:
    generator = np.random.default_rng(1)
    reference, window = (pd.Series(generator.integers(0, 5_000, 30_000).astype(str)) for _ in range(2))
    ours = reference_and_window(reference, window)
    assert ours.error > 0.01
    assert ours.value == pytest.approx(evidently(reference, window)[1], abs=ours.error)
    assert (ours.new, ours.outside) == ((), 0)


def test_new_and_gone_categories_are_told() -> None:
    ours = reference_and_window(pd.Series(list("aaabbc")), pd.Series(list("aaadde")))
    assert (ours.new, ours.gone, ours.outside) == (("d", "e"), ("b", "c"), 0.5)


def test_shares_of_missing_values_stand_beside_each_other() -> None:
    ours = reference_and_window(pd.Series([1.0, 2.0, 3.0, np.nan]), pd.Series([1.0, np.nan]))
    assert (ours.reference_missing, ours.missing) == (0.25, 0.5)


def test_a_window_without_any_value_has_drifted() -> None:
    ours = reference_and_window(pd.Series([1.0, 2.0]), pd.Series([np.nan, np.nan]))
    assert (ours.drifted, ours.method, ours.value, ours.missing) == (True, "share of missing values", 1, 1)
