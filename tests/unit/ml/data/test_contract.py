"""The data contract: limits that fit their column, targets by name and by expression, splits with their column."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlops_assets.ml.data.contract import Column, NamedColumn, Prepare, Split, Target


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ({"type": "category", "min": 0}, "min"),
        ({"type": "boolean", "max": 1}, "max"),
        ({"type": "number", "values": ["a"]}, "values"),
        ({"type": "number", "min": 2, "max": 1}, "min"),
    ],
)
def test_limits_that_do_not_fit_name_their_field(column: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Column.model_validate(column)
    [error] = caught.value.errors()
    assert error["ctx"]["field"] == field


def test_equal_limits_are_a_range_of_one_value() -> None:
    column = Column(type="number", min=1, max=1)
    assert (column.min, column.max) == (1, 1)


def test_a_named_column_is_a_column_with_its_name() -> None:
    column = Column(type="category", values=("a", "b"), nullable=True)
    assert NamedColumn(name="x", **column.model_dump()).model_dump(exclude={"name"}) == column.model_dump()


def test_a_target_takes_from_as_the_yaml_has_it_and_as_python_can_write_it() -> None:
    assert Target.model_validate({"column": "t", "from": "a > 1"}) == Target(column="t", from_="a > 1")


@pytest.mark.parametrize("split", [{"by": "group"}, {"by": "random", "column": "a"}, {"by": "time", "column": "a"}])
def test_only_a_split_by_group_has_a_column(split: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="by: group needs column"):
        Split.model_validate(split)


def test_without_a_word_on_it_a_fifth_of_the_complete_rows_is_held_out() -> None:
    prepare = Prepare()
    assert (prepare.drop_nulls, prepare.drop_duplicates, prepare.split) == (True, False, Split(by="random", test=0.2))
