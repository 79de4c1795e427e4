"""Checks the source files against the data contract before anything is made of them."""

from __future__ import annotations

import glob
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.contract import RFC_4180
from mlops_assets.ml.data.machine import memory_limit_mib, threads_for
from mlops_assets.ml.data.sources import (
    EXACT_IN_FLOAT64,
    FILE_NAME,
    REPLACE,
    always_fits,
    cause_of,
    columns_of,
    dialect_of,
    fits,
    identifier,
    is_given,
    out_of_memory,
    quoted,
    relation,
    session,
    typed,
)
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlops_assets.ml.data.contract import CsvDialect, NamedColumn

CORRECT = "correct the file, or the contract under columns"


class FileReport(Value):
    """What a source file holds: its columns, and its rows with the first and last `event_time` of them (UTC, naive)."""

    rows: int
    columns: tuple[str, ...]
    first_event: datetime | None = None
    last_event: datetime | None = None


class SourceReport(Value):
    """What the source files hold together."""

    rows: int
    extra_columns: tuple[str, ...]
    last_event: datetime | None


def check_sources(
    paths: Sequence[Path],
    columns: Sequence[NamedColumn],
    *,
    event_time: str | None = None,
    csv: CsvDialect = RFC_4180,
) -> list[FileReport]:
    """Compare every file with the contract; a column that may be missing in a row may be missing in a file.

    Raises:
        DataError: a file that cannot be read, a column that is missing or has another type, or a value that is of
            another type.
    """
    found = list[tuple[str, ...]]()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {path.parent for path in paths}
        connection = session(folders, Path(scratch), memory_limit_mib(), threads_for(len(columns)))
        for path in paths:
            if path.stat().st_size == 0:
                raise DataError(f"{path.name} is empty (0 bytes)", remedy=REPLACE)
            types = columns_of(connection, [path], csv)
            if len(types) == 1 and path.suffix != ".parquet":
                _rows_have_the_headers_width(connection, path, next(iter(types)), columns, csv)
            _columns_fit(path, types, columns)
            found.append(tuple(types))
        counts = _values_fit(connection, paths, columns_of(connection, paths, csv), columns, event_time, csv)
    return [
        FileReport(rows=rows, columns=names, first_event=first, last_event=last)
        for names, (rows, first, last) in zip(found, counts, strict=True)
    ]


def source_report(files: Sequence[FileReport], columns: Sequence[NamedColumn]) -> SourceReport:
    """What files that were checked hold together.

    Raises:
        DataError: no rows at all, or a column of the contract that is in none of them.
    """
    known = dict.fromkeys(name for file in files for name in file.columns)
    for column in columns:
        if column.name not in known:
            what = f"None of the {len(files)} source files has the column {column.name}"
            raise DataError(f"{what}; they have {_listed(known)}", remedy=CORRECT)
    rows = sum(file.rows for file in files)
    if rows == 0:
        raise DataError(f"The {len(files)} source files hold no rows", remedy="put data there, or correct source.uri")
    extra = [name for name in known if name not in {column.name for column in columns}]
    last = max((file.last_event for file in files if file.last_event is not None), default=None)
    return SourceReport(rows=rows, extra_columns=tuple(extra), last_event=last)


def _rows_have_the_headers_width(
    connection: Any, path: Path, header: str, columns: Sequence[NamedColumn], csv: CsvDialect
) -> None:
    """A file whose rows differ in width is taken for one column; reading it as its header says tells the line."""
    import duckdb

    for mark in (csv.delimiter,) if csv.delimiter else (",", ";", "\t", "|"):
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
            if column.nullable:
                continue  # files from before it was collected
            what = f"{path.name} has no column {column.name}; it has {_listed(found)}"
            twin = next((name for name in found if name.strip().casefold() == column.name.strip().casefold()), None)
            remedy = f"call it {twin!r}, as the file does" if twin else CORRECT
            raise DataError(what, remedy=remedy)
        kind = found[column.name]
        if not fits(kind, column.type):
            raise DataError(
                f"column {column.name} has the type {kind}, but the contract says {column.type}",
                where=path.name,
                remedy=CORRECT,
            )


def _listed(names: Iterable[str]) -> str:
    listed = [repr(name) if name != name.strip() else name for name in names]
    return ", ".join(listed[:40]) + (f" and {len(listed) - 40} more" if len(listed) > 40 else "")


def _values_fit(
    connection: Any,
    paths: Sequence[Path],
    found: dict[str, str],
    columns: Sequence[NamedColumn],
    event_time: str | None,
    csv: CsvDialect,
) -> list[tuple[int, datetime | None, datetime | None]]:
    """Rows, oldest and newest event of each file; in each of them every value must be of its column's type."""
    import duckdb

    dialect = dialect_of(paths, csv)
    time = next((column for column in columns if column.name == event_time), None)
    moment = typed(time, found.get(time.name), dialect) if time else "NULL"
    misfits = [
        (column, what, condition, remedy)
        for column in columns
        if column.name in found
        for what, condition, remedy in _misfits(column, found[column.name], dialect)
    ]
    counts = "".join(f", count(*) FILTER ({condition})" for _, _, condition, _ in misfits)
    source = relation(paths, csv, filename=True)
    try:
        rows = connection.execute(
            f"SELECT {identifier(FILE_NAME)}, count(*), min({moment}), max({moment}){counts} FROM {source} GROUP BY 1"
        ).fetchall()
        for file, _, _, _, *broken in sorted(rows):
            for count, (column, what, condition, remedy) in zip(broken, misfits, strict=True):
                if count:
                    (example,) = connection.execute(
                        f"SELECT CAST({identifier(column.name)} AS VARCHAR) FROM {relation([Path(file)], csv)} "
                        f"WHERE {condition} LIMIT 1"
                    ).fetchone()
                    told = f"column {column.name} has {count} {what}, such as {example!r}"
                    raise DataError(told, where=Path(file).name, remedy=remedy)
    except duckdb.OutOfMemoryException as error:
        raise out_of_memory(error) from error
    except duckdb.Error as error:
        raise DataError(f"{_named(error, paths)} is damaged ({cause_of(error)})", remedy=REPLACE) from error
    by_file = {row[0]: (row[1], row[2], row[3]) for row in rows}
    return [by_file.get(str(path), (0, None, None)) for path in paths]


def _misfits(column: NamedColumn, kind: str, csv: CsvDialect) -> Iterator[tuple[str, str, str]]:
    """What values of this SQL type can be that the contract does not say: in words, as SQL, and what to do."""
    if always_fits(kind, column.type):
        return
    value = typed(column, kind, csv)
    given = is_given(column, kind, csv)
    yield f"values that are no {column.type}", f"{value} IS NULL AND {given}", CORRECT
    if column.type == "number":
        name = identifier(column.name)
        yield (
            "whole numbers that float64 cannot hold",
            f"abs({value}) > {EXACT_IN_FLOAT64} AND regexp_full_match(trim({name}), '[-+]?[0-9]+')",
            "declare it as a category, or keep it as an integer in Parquet",
        )


def _named(error: Exception, paths: Sequence[Path]) -> str:
    """The file that an error is about, where it says so."""
    text = str(error)
    return next((path.name for path in paths if str(path) in text), f"One of {len(paths)} files")
