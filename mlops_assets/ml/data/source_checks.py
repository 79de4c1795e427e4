"""Checks the source files against the data contract before anything is made of them."""

from __future__ import annotations

import glob
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.sources import (
    REPLACE,
    cast,
    cause_of,
    columns_of,
    fits,
    identifier,
    quoted,
    relation,
    session,
)
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_assets.ml.data.contract import NamedColumn

CORRECT = "correct the file, or the contract under columns"


class SourceReport(Value):
    """What the source files hold together."""

    rows: int
    extra_columns: tuple[str, ...]
    last_event: datetime | None


def check_sources(
    paths: Sequence[Path], columns: Sequence[NamedColumn], *, event_time: str | None = None
) -> SourceReport:
    """Compare every file with the contract; `last_event` is the newest `event_time` (UTC, naive), if that is given.

    Raises:
        DataError: a file that cannot be read, a column that is missing or has another type, or no rows at all.
    """
    rows, extra, last = 0, dict[str, None](), None
    with tempfile.TemporaryDirectory() as scratch:
        connection = session({path.parent for path in paths}, Path(scratch), memory_limit_mib=512, threads=2)
        for path in paths:
            if path.stat().st_size == 0:
                raise DataError(f"{path.name} is empty (0 bytes)", remedy=REPLACE)
            found = columns_of(connection, path)
            if len(found) == 1 and path.suffix != ".parquet":
                _rows_have_the_headers_width(connection, path, next(iter(found)), columns)
            _columns_fit(path, found, columns)
            extra.update(dict.fromkeys(name for name in found if name not in {column.name for column in columns}))
            count, newest = _values_fit(connection, path, found, columns, event_time)
            rows += count
            last = max((moment for moment in (last, newest) if moment is not None), default=None)
    if rows == 0:
        raise DataError(f"The {len(paths)} source files hold no rows", remedy="put data there, or correct source.uri")
    return SourceReport(rows=rows, extra_columns=tuple(extra), last_event=last)


def _rows_have_the_headers_width(connection: Any, path: Path, header: str, columns: Sequence[NamedColumn]) -> None:
    """A file whose rows differ in width is taken for one column; reading it as its header says tells the line."""
    import duckdb

    for mark in ",;\t|":
        names = header.split(mark)
        if len(names) == len({*names}) > 1 and {column.name for column in columns} & {*names}:
            kinds = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
            dialect = f"auto_detect = false, header = true, delim = {quoted(mark)}, quote = '\"', escape = '\"'"
            file = quoted(glob.escape(str(path)))
            try:
                connection.execute(
                    f"SELECT count(*) FROM read_csv({file}, {dialect}, columns = {{{kinds}}})"
                ).fetchall()
            except duckdb.Error as error:
                raise DataError(cause_of(error), where=path.name, remedy="correct that line") from error


def _columns_fit(path: Path, found: dict[str, str], columns: Sequence[NamedColumn]) -> None:
    for column in columns:
        if column.name not in found:
            raise DataError(f"{path.name} has no column {column.name}; it has {', '.join(found)}", remedy=CORRECT)
        kind = found[column.name]
        if path.suffix == ".parquet" and not fits(kind, column.type):
            raise DataError(
                f"column {column.name} has the type {kind}, but the contract says {column.type}",
                where=path.name,
                remedy=CORRECT,
            )


def _values_fit(
    connection: Any, path: Path, found: dict[str, str], columns: Sequence[NamedColumn], event_time: str | None
) -> tuple[int, datetime | None]:
    """Rows and newest event of a file; in text files every value must be of its column's type."""
    import duckdb

    typed = [column for column in columns if found[column.name] == "VARCHAR" and column.type != "category"]
    counts = [
        f"count(*) FILTER ({identifier(c.name)} IS NOT NULL AND {cast(c)} IS NULL), "
        f"any_value({identifier(c.name)}) FILTER ({identifier(c.name)} IS NOT NULL AND {cast(c)} IS NULL)"
        for c in typed
    ]
    newest = next((f"max({cast(column)})" for column in columns if column.name == event_time), "NULL")
    try:
        row = connection.execute(
            f"SELECT {', '.join(['count(*)', newest, *counts])} FROM {relation([path])}"
        ).fetchone()
    except duckdb.Error as error:
        raise DataError(f"{path.name} is damaged ({cause_of(error)})", remedy=REPLACE) from error
    for index, column in enumerate(typed):
        count, example = row[2 + 2 * index : 4 + 2 * index]
        if count:
            raise DataError(
                f"column {column.name} has {count} values that are no {column.type}, such as {example!r}",
                where=path.name,
                remedy=CORRECT,
            )
    return row[0], row[1]
