"""What is kept of a column: counts in cells that a window shares with its reference, whatever the batches were."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.monitoring.column_profile import (
    EXACT_ROWS,
    MAX_NEW,
    CategoryTally,
    EdgeFinder,
    NumberProfile,
    NumberTally,
    category_profile,
    named,
)

NAN = float("nan")


def counted(values: list[float], edges: list[float], batches: int = 1) -> NumberProfile:
    tally = NumberTally(np.array(edges, np.float32))
    for part in np.array_split(np.array(values, np.float32), batches):
        tally.add(part)
    return tally.profile()


def edges_of(values: list[float], limit: int) -> list[float]:
    finder = EdgeFinder(limit)
    finder.add(np.array(values, np.float32))
    return finder.edges().tolist()


def test_values_are_counted_on_edges_and_between_them_with_their_distance_to_the_edge_above() -> None:
    found = counted([-1, 0, 0, 0.25, 0.5, 1, 3, NAN, float("inf")], [0, 1])
    assert (found.rows, found.missing, found.at, found.between) == (7, 2, (2, 1), (1, 2, 1))
    assert found.areas == (1.0, 1.25, 2.0)  # below the first edge, between the two, above the last one
    assert found.outside == 2


def test_the_deviation_is_that_of_all_values_however_far_from_zero_they_lie() -> None:
    values = np.array([1e6, 1e6 + 1, 1e6 + 2], np.float32)
    assert counted(values.tolist(), [0], batches=3).std == pytest.approx(values.astype(float).std())


def test_edges_are_all_values_where_they_are_few_and_quantiles_with_both_ends_otherwise() -> None:
    assert edges_of([3, 1, 2, 1, NAN], limit=3) == [1, 2, 3]
    assert len(edges_of(list(range(EXACT_ROWS)), limit=3)) == EXACT_ROWS  # every value of a small reference counts
    many = edges_of([*range(10_000), -5.0], limit=64)
    assert len(many) <= 65
    assert (many[0], many[-1]) == (-5, 9_999)


@settings(max_examples=50)
@given(
    st.lists(st.floats(-100, 100, width=32) | st.just(NAN), max_size=60),
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8, unique=True),
    st.integers(1, 7),
)
def test_batches_do_not_change_what_is_counted(values: list[float], edges: list[float], batches: int) -> None:
    whole, parts = counted(values, sorted(edges)), counted(values, sorted(edges), batches)
    assert whole.model_copy(update={"areas": (), "std": 0.0}) == parts.model_copy(update={"areas": (), "std": 0.0})
    np.testing.assert_allclose(whole.areas, parts.areas, rtol=1e-5, atol=1e-5)
    assert whole.std == pytest.approx(parts.std, rel=1e-6, abs=1e-4)
    assert whole.rows == sum(whole.at) + sum(whole.between)


def test_categories_that_the_reference_does_not_have_are_told_by_name_up_to_a_bound() -> None:
    tally = CategoryTally(["Bern", "Chur"])
    tally.add(pa.array(["Bern", "Zug", None, "", "Zug", "Uri"]))
    tally.add(pa.array([str(number) for number in range(MAX_NEW + 10)]))
    found = tally.profile()
    assert (found.counts, found.missing, found.rest, found.others) == ((1, 0), 2, MAX_NEW + 13, MAX_NEW)
    assert next(iter(found.new.items())) == ("Zug", 2)
    assert len(found.new) == 5


def test_long_categories_are_told_apart_by_a_digest_of_them() -> None:
    one, other = "x" * 100 + "a", "x" * 100 + "b"
    assert named(one) != named(other)
    profile = category_profile({one: 3, other: 2}, missing=1, rows=5, categories=2)
    tally = CategoryTally(profile.names)
    tally.add(pa.array([other, other]))
    assert tally.profile().counts == (0, 2)
