"""Labels from a table that somebody has: each is held against the model, and all of them become one file, or none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.contract import CsvDialect
from mlops_assets.ml.data.machine import memory_limit_mib
from mlops_assets.ml.data.sources import cause_of, identifier, out_of_memory, quoted, relation, session
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import as_answered

if TYPE_CHECKING:
    from datetime import datetime

    from mlops_assets.ml.values import Classes

NEEDED, OPTIONAL = ("request_id", "label"), ("row", "time")
FORMATS = (".csv", ".csv.gz", ".parquet")
CORRECT = "correct the file; nothing was stored"


def write_labels(given: Path, out: Path, classes: Classes | None, received: datetime) -> int:
    """Write the labels of a CSV or Parquet file into `out`, in the form in which servers store them; how many.

    The file has the columns request_id and label, and may have row, 0 where it is missing, and time, `received` where
    it is missing. A label is one of `classes`, or a number where there are none.

    Raises:
        DataError: it cannot be read, or a row does not fit; nothing was written.
    """
    import duckdb

    if not given.name.endswith(FORMATS):
        raise DataError("it is neither CSV nor Parquet", where=str(given), remedy=f"its name ends with {FORMATS}")
    with tempfile.TemporaryDirectory() as scratch:
        # By one thread rows come in the order of the file, by which they are counted
        connection = session([given.absolute().parent, out.parent], Path(scratch), memory_limit_mib(), threads=1)
        try:
            _read(connection, given, classes, received)
            _check(connection, given, classes)
            connection.execute(
                "COPY (SELECT request_id, row, label, time, received FROM read) "
                f"TO {quoted(str(out))} (FORMAT parquet, COMPRESSION zstd)"
            )
            return connection.execute("SELECT count(*) FROM read").fetchone()[0]
        except duckdb.OutOfMemoryException as error:
            raise out_of_memory(error) from error
        except duckdb.Error as error:
            raise DataError(f"it cannot be read ({cause_of(error)})", where=str(given), remedy=CORRECT) from error


def _read(connection: Any, given: Path, classes: Classes | None, received: datetime) -> None:
    """Make the table `read`: what the file says, as text, and beside it what is stored, NULL where it does not fit."""
    rows = relation([given.absolute()], CsvDialect())
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()]
    missing = [name for name in NEEDED if name not in names]
    unknown = [name for name in names if name not in NEEDED + OPTIONAL]
    if missing or unknown:
        what = f"it has no column {missing[0]}" if missing else f"it has a column {unknown[0]}"
        remedy = f"give {', '.join(NEEDED)}, and {' and '.join(OPTIONAL)} where they are known; nothing was stored"
        raise DataError(what, where=str(given), remedy=remedy)
    texts = [
        f"CAST({identifier(name)} AS VARCHAR) AS given_{name}"
        if name in names
        else f"CAST(NULL AS VARCHAR) given_{name}"
        for name in NEEDED + OPTIONAL
    ]
    moment = f"TIMESTAMPTZ {quoted(received.isoformat())}"
    number = "WHEN regexp_full_match(given_row, '[0-9]+([.]0)?') THEN TRY_CAST(given_row AS INTEGER)"
    # The end of a date alone looks like a zone, and DuckDB knows years that Python and servers do not
    moments = "'[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+ *(Z|[+-][0-9]{2}(:?[0-9]{2})?)'"
    told = "TRY_CAST(given_time AS TIMESTAMPTZ)"
    years = "TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59+00'"
    fits = f"regexp_full_match(given_time, {moments}) AND {told} BETWEEN {years}"
    stored = {
        "request_id": "CASE WHEN regexp_full_match(given_request_id, '[!-~]{1,128}') THEN given_request_id END",
        "row": f"CASE WHEN given_row IS NULL THEN 0 {number} END",
        "label": _label(classes),
        "time": f"CASE WHEN given_time IS NULL THEN {moment} WHEN {fits} THEN {told} END",
        "received": moment,
    }
    columns = ", ".join(f"{sql} AS {name}" for name, sql in stored.items())
    connection.execute(
        f"CREATE TEMP TABLE read AS SELECT row_number() OVER () AS number, *, {columns} "
        f"FROM (SELECT {', '.join(texts)} FROM {rows})"
    )


def _label(classes: Classes | None) -> str:
    """The SQL of a label as the graph answers it."""
    if classes is None:
        number = "TRY_CAST(given_label AS DOUBLE)"
        return f"CASE WHEN isfinite({number}) THEN CAST({number} AS VARCHAR) END"
    cases = "".join(
        f" WHEN given_label IN ({', '.join(map(quoted, _written(known)))}) THEN {quoted(str(as_answered(known)))}"
        for known in classes
    )
    return f"CASE{cases} END"


def _written(known: float | str) -> list[str]:
    """How a class may be written in a table.

    >>> _written("1"), _written(2), _written(True)
    (['1'], ['2', '2.0'], ['1', '1.0', 'true', 'True'])
    """
    if isinstance(known, str):
        return [known]
    texts = [str(int(known)), repr(float(known))] if float(known).is_integer() else [repr(known)]
    return [*texts, *([str(bool(known)).lower(), str(bool(known))] if known in (0, 1) else [])]


def _check(connection: Any, given: Path, classes: Classes | None) -> None:
    """Refuse the first row that does not fit."""
    fitting = (
        "a number" if classes is None else f"one of {', '.join(str(as_answered(known)) for known in classes[:10])}"
    )
    wanted = {
        "request_id": "the id of a request, at most 128 printable ASCII characters without spaces",
        "row": "the number of a row in its request",
        "label": fitting,
        "time": "a moment with a time zone, such as 2026-11-17T09:00:00Z",
    }
    wrong = " ".join(f"WHEN {name} IS NULL THEN '{name}'" for name in wanted)
    found = connection.execute(
        f"SELECT number, name, [given_request_id, given_row, given_label, given_time] FROM (SELECT *, CASE {wrong} END "
        "AS name FROM read) WHERE name IS NOT NULL ORDER BY number LIMIT 1"
    ).fetchone()
    if found:
        number, name, values = found
        value = values[list(wanted).index(name)]
        what = f"{name} is {'missing' if value is None else repr(value[:100])}, but must be {wanted[name]}"
        raise DataError(what, where=f"{given}: row {number}", remedy=CORRECT)
    twice = connection.execute(
        "SELECT min(number), max(number), any_value(request_id) FROM read GROUP BY request_id, row, time "
        "HAVING count(DISTINCT label) > 1 ORDER BY 1 LIMIT 1"
    ).fetchone()
    if twice:
        first, last, request_id = twice
        what = f"it gives {request_id} another label than row {first}, at the same time"
        raise DataError(what, where=f"{given}: row {last}", remedy=CORRECT)
    if not connection.execute("SELECT 1 FROM read LIMIT 1").fetchone():
        raise DataError("it has no rows", where=str(given), remedy="give a file with labels")
