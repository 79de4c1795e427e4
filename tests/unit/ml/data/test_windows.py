"""Windows of time partitions."""

from datetime import UTC, datetime

import pytest

from mlops_assets.ml.data.windows import partition_of, window
from mlops_assets.ml.errors import DataError


@pytest.mark.parametrize(
    ("last", "by", "count", "start", "end"),
    [
        ("2013-06", "month", 1, (2013, 6, 1), (2013, 7, 1)),
        ("2013-01", "month", 12, (2012, 2, 1), (2013, 2, 1)),
        ("2013-12", "month", 3, (2013, 10, 1), (2014, 1, 1)),
        ("2024-02-29", "day", 2, (2024, 2, 28), (2024, 3, 1)),
    ],
)
def test_a_window_ends_with_its_last_partition(
    last: str, by: str, count: int, start: tuple[int, ...], end: tuple[int, ...]
) -> None:
    assert window(last, by, count) == (datetime(*start, tzinfo=UTC), datetime(*end, tzinfo=UTC))  # pyright: ignore


def test_without_a_count_everything_before_belongs_to_it() -> None:
    assert window("2013-06", "month", None) == (None, datetime(2013, 7, 1, tzinfo=UTC))


@pytest.mark.parametrize("last", ["2013", "2013-13", "June", "2013-06-31"])
def test_what_is_no_partition_is_told_with_an_example(last: str) -> None:
    with pytest.raises(DataError, match="2013-06"):
        window(last, "month" if len(last) < 9 else "day", 1)


def test_the_partition_of_a_moment() -> None:
    assert partition_of(datetime(2013, 6, 30, 23, 59, tzinfo=UTC), "month") == "2013-06"
