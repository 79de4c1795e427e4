"""Which rows are held out: decided by a row's own content, so that it never depends on order, files or threads."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.sources import quoted

if TYPE_CHECKING:
    from datetime import datetime

    from mlops_assets.ml.data.contract import Split

PARTS = {"train": (0, 1), "test": (2,)}  # the codes of `part`: 0 to fit on, 1 for validation, 2 to test on
RULE = "1"  # changes when rows change sides although nothing in the YAML did


def split_id(split: Split) -> str:
    """Two preparations with the same one put every row on the same side; by time, when their test parts begin alike."""
    rule = f"{RULE}:{split.by}:{split.test!r}:{split.column}:{split.seed}"
    return hashlib.sha256(rule.encode()).hexdigest()[:16]


def assign_parts(connection: Any, split: Split, event_time: str | None, *, by_class: bool) -> datetime | None:
    """Create the view `parted`: `kept` with the part of each row; when the test part begins, in a split by time.

    random: a row's position, the digest of its content, is below the share or not; `by_class`, the first row of each is
    tested on and the last one trained on, whatever the share. group: the same with the digest of the group, so a group
    is on one side. time: the rows from a moment on. Rows for validation are taken from the rest in the same way.
    """
    if split.by == "time":
        assert event_time is not None
        return _by_time(connection, split, event_time)
    classes = "label" if split.by == "random" and by_class else "true"
    test = _below(connection, "true", split.test, classes)
    # Of the rest, what lies below the next threshold
    rest = split.test + (1 - split.test) * split.validation
    validation = _below(connection, f"NOT ({test})", rest, "true")
    _part(connection, test, validation)
    return None


def _below(connection: Any, among: str, share: float, classes: str) -> str:
    """The SQL of the rows whose position is below a share; of each of `classes` at least one row is, and one is not."""
    edges = connection.execute(
        f"SELECT min(position), max(position) FROM kept WHERE {among} GROUP BY {classes} ORDER BY ALL"
    ).fetchall()
    limit = int(share * 2**128)
    # Where the share does what is wanted by itself, which it does but for small classes, the edges need not be named
    lowest = ", ".join(f"{low}::UHUGEINT" for low, high in edges if limit <= low != high)
    highest = ", ".join(f"{high}::UHUGEINT" for _, high in edges if high < limit)
    below = f"position < {limit}::UHUGEINT"
    below += f" AND position NOT IN ({highest})" if highest else ""
    below += f" OR position IN ({lowest})" if lowest else ""
    return f"({among}) AND ({below})"


def _by_time(connection: Any, split: Split, column: str) -> datetime | None:
    test_from = _cut(connection, column, "true", split.test)
    if test_from is None:
        _part(connection, "false", "false")
        return None
    test = f"{column} >= {_moment(test_from)}"
    validation_from = _cut(connection, column, f"NOT ({test})", split.validation)
    if validation_from is not None:
        validation = f"NOT ({test}) AND {column} >= {_moment(validation_from)}"
    else:  # all at one moment
        validation = _below(connection, f"NOT ({test})", split.validation, "true")
    _part(connection, test, validation)
    return test_from


def _cut(connection: Any, column: str, among: str, share: float) -> datetime | None:
    """The moment from which on about a share of the rows lies: of the moments there are, the one that comes closest."""
    found = connection.execute(
        f"SELECT moment FROM (SELECT {column} AS moment, sum(count(*)) OVER (ORDER BY {column} DESC) AS later, "
        f"sum(count(*)) OVER () AS total FROM kept WHERE {among} GROUP BY {column}) "
        f"WHERE later < total ORDER BY abs(later - {share!r} * total), moment LIMIT 1"
    ).fetchone()
    return found[0] if found else None


def _moment(moment: datetime) -> str:
    return f"TIMESTAMP {quoted(f'{moment:%Y-%m-%d %H:%M:%S.%f}')}"


def _part(connection: Any, test: str, validation: str) -> None:
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW parted AS SELECT *, CASE WHEN {test} THEN 2 WHEN {validation} THEN 1 ELSE 0 END "
        "AS part FROM kept"
    )
