"""How good answers were, as far as labels have come."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlops_assets.ml.monitoring.live_performance import live_performance


def test_metrics_are_those_of_the_labelled_rows_with_the_share_of_the_others_beside_them() -> None:
    answers = [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]
    truths = pa.table({"label": ["0", "1", "0"], "answer": pa.array(answers, pa.list_(pa.float32()))})
    found = live_performance(truths, ("0", "1"), rows=12, labelled=3)
    assert (found.labelled, found.unlabelled_share) == (3, 0.75)
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)


def test_labels_of_a_regression_are_numbers() -> None:
    truths = pa.table({"label": ["1.5", "2.5", "rain"], "answer": [1.0, 3.0, 9.0]})
    found = live_performance(truths, None, rows=3, labelled=3)
    assert (found.metrics["mae"], found.labelled) == (0.5, 2)


def test_labels_that_are_no_class_of_the_model_do_not_count() -> None:
    truths = pa.table({"label": ["snow", "1"], "answer": pa.array([[0.9, 0.1], [0.2, 0.8]], pa.list_(pa.float32()))})
    found = live_performance(truths, ("0", "1"), rows=2, labelled=2)
    assert (found.metrics["accuracy"], found.labelled) == (1, 1)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("odd", [NAN, INFINITE, -INFINITE])
def test_answers_that_are_no_numbers_do_not_count(odd: float) -> None:
    truths = pa.table({"label": ["1.5", "2.5"], "answer": [1.0, odd]})
    assert live_performance(truths, None, rows=2, labelled=2).metrics["mae"] == 0.5
    answers = pa.array([[0.2, 0.8], [odd, odd]], pa.list_(pa.float32()))
    found = live_performance(pa.table({"label": ["1", "0"], "answer": answers}), ("0", "1"), rows=2, labelled=2)
    assert (found.metrics["accuracy"], found.labelled) == (1, 1)


def test_a_label_beyond_all_measure_costs_no_report() -> None:
    truths = pa.table({"label": ["1e308", "-1e308", "2"], "answer": [1.0, 2.0, 3.0]})
    assert live_performance(truths, None, rows=3, labelled=3).metrics["mse"] == INFINITE


@pytest.mark.parametrize("labels", [None, ("0", "1")])
def test_where_no_label_has_come_there_are_no_metrics(labels: tuple[str, ...] | None) -> None:
    kind = pa.float64() if labels is None else pa.list_(pa.float32())
    truths = pa.table({"label": pa.array([], pa.string()), "answer": pa.array([], kind)})
    found = live_performance(truths, labels, rows=5, labelled=0)
    assert (found.metrics, found.unlabelled_share) == ({}, 1)
