"""How much each raw column of a row moved a model's answer away from its usual one: Shapley values.

The usual answer is the mean of those to a background sample, and a column that is left out has the values that the
sample has there (interventional Shapley values, Lundberg and Lee 2017). With few columns all coalitions are asked, and
the values are exact; with more, coalitions along permutations and their reverses (Castro 2009, Mitchell 2022). Either
way base value and attributions add up to the answer.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

ROWS_ASKED = 8_192  # by which the time for a row is bounded
FEW_ROWS, ENOUGH_ROWS = 16, 32  # of the background, for exact values and along permutations
SEED = 0  # the same row is explained in the same way


class Attributions(NamedTuple):
    """What columns contributed to the answers (outputs,) to one row: their mean over the background, and a value for
    each column and output (columns, outputs). `base` and the sum of `of_columns` are the answers.
    """

    base: Values
    of_columns: Values


class Plan(NamedTuple):
    """Sets of columns that are asked (sets, columns), and the steps (steps, 3) from a set to one with a column more:
    that column, and the numbers of both sets; with the weight of each step. The first set is empty.
    """

    sets: NDArray[np.bool_]
    steps: NDArray[np.intp]
    weights: Values


def attributions(
    answer: Callable[[dict[str, NDArray[Any]]], Values],
    row: Mapping[str, NDArray[Any]],
    background: Mapping[str, NDArray[Any]],
) -> Attributions:
    """Explain the answers to one row.

    `answer` takes arrays (n, 1) of all columns and gives (n, outputs) in float64. `row` has arrays (1, 1), and
    `background` (m, 1). About ROWS_ASKED rows are asked at most, and of a sample that is larger its first ones alone.
    """
    names, sample = list(row), len(next(iter(background.values())))
    plan = _plan(len(names), sample)
    sample = max(1, min(sample, ROWS_ASKED // len(plan.sets)))
    mixed = {
        name: np.where(plan.sets[:, [index]], row[name], background[name][:sample].T).reshape(-1, 1)
        for index, name in enumerate(names)
    }
    values = answer(mixed).reshape(len(plan.sets), sample, -1).mean(axis=1)
    # Of the row itself its very answer, from which the mean of many that are the same may differ in its last bit
    values[plan.sets.all(axis=1)] = answer(dict(row))
    column, before, after = plan.steps.T
    of_columns = np.zeros((len(names), values.shape[1]))
    np.add.at(of_columns, column, plan.weights[:, None] * (values[after] - values[before]))
    return Attributions(values[0], of_columns)


@lru_cache(64)
def _plan(columns: int, sample: int) -> Plan:
    if 2**columns * min(sample, FEW_ROWS) <= ROWS_ASKED:
        return _all_sets(columns)
    return _along_permutations(columns, max(1, ROWS_ASKED // (2 * columns * min(sample, ENOUGH_ROWS))))


def _all_sets(columns: int) -> Plan:
    """Every set, bit i of whose number says whether column i is in it, each step with Shapley's weight."""
    sets = (np.arange(2**columns)[:, None] >> np.arange(columns)) & 1 == 1
    before, column = np.nonzero(~sets)
    of_size = [math.factorial(n) * math.factorial(columns - n - 1) / math.factorial(columns) for n in range(columns)]
    weights = np.array(of_size)[sets.sum(axis=1)[before]]
    return Plan(sets, np.stack([column, before, before | 1 << column], axis=1), weights)


def _along_permutations(columns: int, permutations: int) -> Plan:
    """The sets that grow along permutations and their reverses; each step weighs the same."""
    generator = np.random.default_rng(SEED)
    orders = [generator.permutation(columns) for _ in range(permutations)]
    orders += [order[::-1] for order in orders]
    numbers, sets, steps = {0: 0}, [np.zeros(columns, dtype=np.bool_)], list[tuple[int, int, int]]()
    for order in orders:
        members, chosen = 0, sets[0].copy()
        for column in order.tolist():
            grown = members | 1 << column
            chosen[column] = True
            if grown not in numbers:
                numbers[grown] = len(sets)
                sets.append(chosen.copy())
            steps.append((column, numbers[members], numbers[grown]))
            members = grown
    return Plan(np.array(sets), np.array(steps, dtype=np.intp), np.full(len(steps), 1 / len(orders)))
