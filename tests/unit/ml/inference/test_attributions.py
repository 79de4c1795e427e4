"""Shapley values: they add up, and are those of the definition, for any function of columns of any type."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.inference.attributions import ROWS_ASKED, attributions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]


def column(values: list[Any]) -> NDArray[Any]:
    kind = object if isinstance(values[0], str) else np.float32
    array = np.empty((len(values), 1), dtype=kind)
    array[:, 0] = values
    return array


def numbers(columns: Arrays) -> NDArray[np.float64]:
    """All columns as numbers (rows, columns): of a text its length, and a missing number is far away."""
    as_numbers = [
        np.array([len(v) for v in values[:, 0]], float)
        if values.dtype == object
        else np.nan_to_num(values[:, 0].astype(float), nan=-50)
        for values in columns.values()
    ]
    return np.stack(as_numbers, axis=1)


def crooked(columns: Arrays) -> NDArray[np.float64]:
    """Two outputs in which columns work together."""
    x = numbers(columns)
    return np.stack([x.prod(axis=1) / (1 + np.abs(x).sum(axis=1)), np.sin(x.sum(axis=1))], axis=1)


def by_definition(row: Arrays, background: Arrays) -> NDArray[np.float64]:
    """The mean, over all orders of the columns, of what each adds to the mean answer when its turn comes."""
    names = list(row)
    orders = list(permutations(names))
    added = np.zeros((len(names), 2))
    for order in orders:
        mixed, before = dict(background), crooked(background).mean(axis=0)
        for name in order:
            mixed[name] = np.repeat(row[name], len(background[name]), axis=0)
            after = crooked(mixed).mean(axis=0)
            added[names.index(name)] += after - before
            before = after
    return added / len(orders)


VALUES = {
    "number": st.one_of(st.floats(-5, 5, width=32), st.just(float("nan"))),
    "text": st.text(max_size=4),
}


@st.composite
def rows_and_backgrounds(draw: st.DrawFn, most_columns: int = 4) -> tuple[Arrays, Arrays]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=most_columns))
    sample = draw(st.integers(1, 5))
    row, background = {}, {}
    for index, kind in enumerate(kinds):
        row[f"c{index}"] = column([draw(VALUES[kind])])
        background[f"c{index}"] = column(draw(st.lists(VALUES[kind], min_size=sample, max_size=sample)))
    return row, background


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(rows_and_backgrounds())
def test_they_are_those_of_the_definition(drawn: tuple[Arrays, Arrays]) -> None:
    row, background = drawn
    found = attributions(crooked, row, background)
    np.testing.assert_allclose(found.of_columns, by_definition(row, background), atol=1e-6)
    np.testing.assert_allclose(found.base, crooked(background).mean(axis=0), atol=1e-6)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(rows_and_backgrounds(most_columns=16))
def test_base_and_attributions_add_up_to_the_answer_however_many_columns_there_are(
    drawn: tuple[Arrays, Arrays],
) -> None:
    row, background = drawn
    found = attributions(crooked, row, background)
    np.testing.assert_allclose(found.base + found.of_columns.sum(axis=0), crooked(row)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", [3, 10, 40])
def test_of_a_sum_each_column_has_its_own_part(columns: int) -> None:
    generator = np.random.default_rng(1)
    row = {f"c{i}": column([float(i)]) for i in range(columns)}
    background = {name: generator.normal(size=(8, 1)).astype(np.float32) for name in row}

    found = attributions(lambda given: numbers(given).sum(axis=1, keepdims=True), row, background)

    own = [row[name][0, 0] - background[name].astype(float).mean() for name in row]
    np.testing.assert_allclose(found.of_columns[:, 0], own, atol=1e-6)


@pytest.mark.parametrize("columns", [1, 7, 9, 10, 100, 1_000])
def test_the_rows_that_are_asked_are_bounded_and_always_the_same(columns: int) -> None:
    row = {f"c{i}": column([1.0]) for i in range(columns)}
    background = {name: np.zeros((64, 1), np.float32) for name in row}
    asked = 0

    def answer(given: Arrays) -> NDArray[np.float64]:
        nonlocal asked
        asked += len(given["c0"])
        return crooked(given)

    first = attributions(answer, row, background)
    assert asked <= max(ROWS_ASKED, 2 * columns) + 2
    np.testing.assert_array_equal(first.of_columns, attributions(answer, row, background).of_columns)
