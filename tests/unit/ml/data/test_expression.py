"""An expression over the columns of a row: what it reads, and that it is nothing else."""

from __future__ import annotations

import pytest

from mlops_assets.ml.data.expression import columns_of_expression
from mlops_assets.ml.errors import DataError


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("a > 1", {"a"}),
        ('"weight (kg)" > 50 AND hour(ordered) > 3', {"weight (kg)", "ordered"}),
        ("kind = 'month'", {"kind"}),
        ("kind = 'o''clock' || chr(0)", {"kind"}),
        ('CASE WHEN "a""b" THEN 1.0 ELSE 0 END -- a comment', {'a"b'}),
        ("list_sum(list_transform([a, b], x -> x + c)) > 1", {"a", "b", "c"}),
        ("1 > 0", set()),
    ],
)
def test_the_columns_are_those_that_are_read(expression: str, columns: set[str]) -> None:
    assert columns_of_expression(expression) == columns


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("a >", "is no SQL expression"),
        ("a); COPY (SELECT 1) TO 'x.csv'; SELECT (1", "is no SQL expression"),
        ("a) AS y FROM (SELECT * FROM windowed LIMIT 3) --", "is no SQL expression"),
        ("a) FROM (SELECT 1 AS a) WHERE (true", "more than one"),
        ("a); SELECT (1", "more than one"),
        ("a) AS y, (b", "more than one"),
        ("a) FROM labelled WHERE (b", "more than one"),
        ("a > (SELECT max(b) FROM read_csv('x.csv'))", "has a subquery"),
        ("sum(a) OVER ()", "has a window function"),
        ("count(a) > 1", "count is a function of many rows"),
        ("*", r"has \*|is no SQL"),
        ("a > $limit", "has a parameter"),
        ("random() > 0.5", "random gives another value at each time"),
        ("now() > a", "now gives another value at each time"),
        ("ago(a) > b", "ago gives another value at each time"),
        ("lenght(a) > 3", "there is no function lenght"),
        ("a = '\0'", "is no SQL expression"),
        ("a'", "is no SQL expression"),
    ],
)
def test_what_is_no_expression_over_one_row_is_refused(expression: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        columns_of_expression(expression)
