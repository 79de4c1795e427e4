"""The champion: what keeps it from being compared, and which data is older than its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlops_assets.assets.champion import Origin, another_question, older_data, seen_rows
from mlops_assets.ml.inference.artifact import GoldenRows, ModelSignature

MARCH, APRIL = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
BEFORE = Origin(prepared_data="p1", split_id="s", until=APRIL, target="rain")


def origin(**changed: Any) -> Origin:
    return BEFORE.model_copy(update={"prepared_data": "p2"} | changed)


def question(classes: tuple[Any, ...], wanted: tuple[Any, ...], **changed: Any) -> str | None:
    task = "binary_classification" if len(classes) == 2 else "multiclass_classification"
    signature = ModelSignature(
        model="m", task=task, inputs=(), classes=classes, sha256="s", golden=GoldenRows(rows=(), outputs={})
    )
    return another_question(signature, BEFORE, origin(**changed), changed.get("task", task), wanted)


def test_an_origin_comes_back_from_its_tags() -> None:
    made = origin(test_from=MARCH)
    assert Origin.of_tags(made.tags | {"git_commit": "c"}) == made
    assert Origin.of_tags({}) == Origin()


def test_a_champion_was_not_trained_on_test_rows_of_the_same_preparation_or_the_same_split() -> None:
    assert seen_rows(BEFORE, BEFORE) is None
    assert seen_rows(BEFORE, origin()) is None


@pytest.mark.parametrize(
    ("champion", "candidate", "reason"),
    [
        ({}, {"split_id": "t"}, "it was trained on some of these rows: prepare.split has changed since"),
        ({"split_id": ""}, {}, "as far as is known: its version does not say how its rows were split"),
        ({}, {"split_id": ""}, "as far as is known"),
        ({"test_from": APRIL}, {"test_from": MARCH}, "up to 2025-04-01 00:00, and the test part begins 2025-03-01"),
        ({}, {"test_from": MARCH}, "up to an unknown time"),
    ],
)
def test_a_champion_that_may_have_learned_from_test_rows_is_told(
    champion: dict[str, Any], candidate: dict[str, Any], reason: str
) -> None:
    assert reason in str(seen_rows(BEFORE.model_copy(update=champion), origin(**candidate)))


def test_by_time_a_champion_whose_test_part_begins_no_later_has_not_seen_the_rows() -> None:
    for begins in (MARCH, APRIL):
        assert seen_rows(BEFORE.model_copy(update={"test_from": MARCH}), origin(test_from=begins)) is None


def test_classes_in_another_order_and_one_more_or_less_of_several_are_the_same_question() -> None:
    assert question((False, True), (True, False)) is None
    assert question(("a", "b", "c"), ("a", "b", "c", "d")) is None
    assert question(("a", "b", "c", "d"), ("c", "a", "z")) is None


def test_other_classes_of_a_binary_task_another_task_or_target_is_another_question() -> None:
    assert question((0, 1), ("no", "yes")) == "its classes are 0, 1, and those of the data no, yes"
    assert question(("a", "b", "c"), ("x", "y", "z", "a")) is not None
    assert question((0, 1), (0, 1), target="rain = mm > 2") == "it predicts rain"


def test_data_that_ends_before_the_champions_is_older() -> None:
    assert older_data(BEFORE, MARCH) == "its data ends 2025-03-01 00:00, and the champion's 2025-04-01 00:00"
    assert older_data(BEFORE, APRIL) is None
    assert older_data(Origin(), MARCH) is None
    assert older_data(BEFORE, None) is None
