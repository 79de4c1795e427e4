"""Two versions judged by labels: rows in, what they say and whether that is more than chance out."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.serving.label_evidence import CHANCE, FEW_REQUESTS, LabelledRow, label_evidence, sign_test

if TYPE_CHECKING:
    from mlops_assets.ml.values import Task

LABELS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.floats(-1e6, 1e6)
CLASSES: Task = "multiclass_classification"


def classified(label: str, champion: str, candidate: str, request_id: object) -> LabelledRow:
    return LabelledRow(str(request_id), label, (champion, 0.5), (candidate, 0.5))


def measured(label: float, champion: float, candidate: float, request_id: object) -> LabelledRow:
    return LabelledRow(str(request_id), repr(label), (None, champion), (None, candidate))


def other_way_round(row: LabelledRow) -> LabelledRow:
    return row._replace(champion=row.candidate, candidate=row.champion)


@given(st.lists(st.tuples(LABELS, LABELS, LABELS, st.integers(0, 80)), max_size=200))
def test_of_two_versions_one_at_most_mends_the_other(rows: list[tuple[str, str, str, int]]) -> None:
    given_rows = [classified(*row) for row in rows]
    there = label_evidence(given_rows, CLASSES)
    back = label_evidence(map(other_way_round, given_rows), CLASSES)
    assert (there.better, there.worse, there.champion) == (back.worse, back.better, back.candidate)
    assert there.requests == len({row[3] for row in rows})
    assert not (there.mends and back.mends)
    assert there.better + there.worse <= there.requests


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=100))
def test_of_numbers_too(rows: list[tuple[float, float, float]]) -> None:
    given_rows = [measured(*row, number) for number, row in enumerate(rows)]
    there = label_evidence(given_rows, "regression")
    back = label_evidence(map(other_way_round, given_rows), "regression")
    assert (there.better, there.worse) == (back.worse, back.better)
    assert not (there.mends and back.mends)


@given(st.lists(st.tuples(LABELS, LABELS), max_size=200))
def test_a_version_that_answers_the_same_mends_nothing(rows: list[tuple[str, str]]) -> None:
    found = label_evidence([classified(label, said, said, n) for n, (label, said) in enumerate(rows)], CLASSES)
    assert (found.better, found.worse, found.chance, found.mends) == (0, 0, 1.0, False)


@pytest.mark.parametrize("pairs", [1, 7, 30, 200, 1_001])
def test_one_that_is_no_better_is_taken_for_better_as_seldom_as_is_said(pairs: int) -> None:
    taken = [better for better in range(pairs + 1) if sign_test(better, pairs - better) <= CHANCE]
    assert sum(comb(pairs, better) for better in taken) / 2**pairs <= CHANCE
    assert pairs < 7 or taken


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_chance_is_that_of_the_exact_sign_test(better: int, worse: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(better, better + worse, alternative="greater").pvalue if better + worse else 1.0
    assert sign_test(better, worse) == pytest.approx(expected, rel=1e-9)
    assert sign_test(better + 1, worse) <= sign_test(better, worse) <= sign_test(better, worse + 1)


def test_what_mends_a_champion_that_is_wrong_is_told_from_what_is_wrong_itself() -> None:
    rows = [classified("a" if n % 2 else "b", "a", "a" if n % 2 else "b", n) for n in range(2 * FEW_REQUESTS)]
    assert label_evidence(rows, CLASSES).mends
    assert not label_evidence(map(other_way_round, rows), CLASSES).mends
    few = label_evidence(rows[: FEW_REQUESTS - 1], CLASSES)
    assert not few.mends
    assert "49 requests of them have labels, too few" in few.in_words


def test_who_never_answers_a_rare_class_is_not_better() -> None:
    """Of 200 rows 4 are fraud; the champion finds all and cries wolf 20 times, the candidate is silent."""
    rows = [classified("fraud", "fraud", "fine", n) for n in range(4)]
    rows += [classified("fine", "fraud" if n < 20 else "fine", "fine", 100 + n) for n in range(196)]
    found = label_evidence(rows, "binary_classification")
    assert found.chance <= CHANCE
    assert found.candidate < found.champion
    assert not found.mends


def test_who_is_a_little_nearer_mostly_and_far_off_at_times_is_not_better() -> None:
    rows = [measured(0.0, 1.0, 0.9 if n % 10 else 100.0, n) for n in range(100)]
    found = label_evidence(rows, "regression")
    assert found.chance <= CHANCE
    assert not found.mends


def test_a_request_of_many_rows_counts_once() -> None:
    rows = [classified("a", "b", "a", "one") for _ in range(1_000)]
    found = label_evidence(rows, CLASSES)
    assert (found.requests, found.better, found.mends) == (1, 1, False)


def test_labels_that_are_no_numbers_say_nothing_of_numbers() -> None:
    rows = [LabelledRow(str(n), label, (None, 1.0), (None, 2.0)) for n, label in enumerate(("late", "nan", "1.5"))]
    assert label_evidence(rows, "regression").requests == 1
    assert np.isfinite(label_evidence(rows, "regression").champion)


@pytest.mark.parametrize("champion", [float("nan"), float("inf")])
def test_what_a_version_gives_no_number_for_says_nothing(champion: float) -> None:
    rows = [measured(0.0, 1.0, 0.5, n) for n in range(100)]
    found = label_evidence([*rows, measured(0.0, champion, 0.5, 100), measured(0.0, 1.0, champion, 101)], "regression")
    assert (found.requests, found.champion, found.mends) == (100, 1.0, True)
