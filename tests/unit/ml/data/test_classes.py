"""The classes of a target: which values may be some, and how they are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.data.classes import MAX_CLASSES, check_spelling, classes_of
from mlops_assets.ml.data.contract import Target
from mlops_assets.ml.errors import DataError
from tests.preparation import plan, prepare_frames
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Classes


def classes(values: list[Any], kind: str, **changed: Any) -> Classes:
    return classes_of(values, kind, plan(**{"task": "multiclass_classification"} | changed))


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        (["a", "b", "c"], "VARCHAR", ("a", "b", "c")),
        ([0.0, 1.0, 7.0], "DOUBLE", (0, 1, 7)),
        ([0.5, 1.0], "DOUBLE", (0.5, 1.0)),
        ([False, True], "BOOLEAN", (False, True)),
    ],
)
def test_numbers_that_are_all_whole_are_whole_as_classes(values: list[Any], kind: str, found: Classes) -> None:
    assert classes(values, kind) == found


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([], "VARCHAR", "rain has only the class NULL; a classifier needs rows of at least two classes"),
        (["a"], "VARCHAR", "rain has only the class a;"),
        (list(range(MAX_CLASSES + 1)), "INTEGER", "more than 100 classes .*; did you mean task: regression?"),
        ([str(n) for n in range(MAX_CLASSES + 1)], "VARCHAR", "more than 100 classes .*; put rare ones together"),
        ([1, 2**63], "UBIGINT", "rain has classes beyond 64 bits"),
        (["1", "1.0", "2"], "VARCHAR", "rain has both '1' and '1.0', one value that is written in two ways"),
    ],
)
def test_values_that_cannot_be_classes_are_told(values: list[Any], kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classes(values, kind)


def test_a_positive_class_that_is_none_is_told() -> None:
    target = Target(column="rain", positive="yes")
    with pytest.raises(DataError, match=r"^target\.positive: 'yes' is none of its classes: no, si; correct it"):
        classes(["no", "si"], "VARCHAR", target=target)


@pytest.mark.parametrize("values", [["a", "b"], ["1", "2"], ["1.0", "2.0"], ["True", "False"], [1, 1.5], [None, "x"]])
def test_what_is_written_in_one_way_is_taken(values: list[Any]) -> None:
    check_spelling("rain", values)


def test_three_classes_for_a_binary_task(tmp_path: Path) -> None:
    used = plan(target=Target(column="where", from_="place"))
    with pytest.raises(DataError, match="3 classes .*multiclass_classification"):
        prepare_frames(tmp_path, [weather()], used)


@pytest.mark.parametrize("text", ["\0", "Bern\0", "Be\0rn"])
def test_a_text_that_ends_early_where_models_are_served_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="place has .* a text ends at its NUL character; remove that character"):
        check_spelling("place", ["Bern", text])
