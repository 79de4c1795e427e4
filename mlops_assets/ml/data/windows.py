"""Time partitions of a source, and the windows of rows that a run uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from mlops_assets.ml.errors import DataError

PartitionBy = Literal["day", "month"]
FORMATS: dict[PartitionBy, str] = {"day": "%Y-%m-%d", "month": "%Y-%m"}


def partition_of(moment: datetime, by: PartitionBy) -> str:
    """The key of the partition that holds `moment`: 2013-06-30 or 2013-06."""
    return moment.strftime(FORMATS[by])


def window(last: str, by: PartitionBy, count: int | None) -> tuple[datetime | None, datetime]:
    """Start (None: everything before) and excluded end of `count` partitions up to and with `last`, in UTC.

    Raises:
        DataError: `last` is no key of such a partition.
    """
    try:
        first_moment = datetime.strptime(last, FORMATS[by]).replace(tzinfo=UTC)
    except ValueError:
        example = {"day": "2013-06-30", "month": "2013-06"}[by]
        raise DataError(f"{last!r} is not a {by}", remedy=f"give a partition such as {example}") from None
    end = _moved(first_moment, by, 1)
    return (_moved(end, by, -count) if count else None), end


def _moved(moment: datetime, by: PartitionBy, steps: int) -> datetime:
    if by == "day":
        return moment + timedelta(days=steps)
    months = moment.year * 12 + moment.month - 1 + steps
    return moment.replace(year=months // 12, month=months % 12 + 1)
