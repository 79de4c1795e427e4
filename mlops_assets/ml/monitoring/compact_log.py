"""The log of a day: the small files of the servers as one table, each row with its label where that is known.

Pure functions of files, in bounded memory, by DuckDB.
"""

from __future__ import annotations

import glob
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.machine import cores, memory_limit_mib
from mlops_assets.ml.data.sources import cause_of, identifier, out_of_memory, quoted, session
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Document

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = "log.parquet"
ROWS = "request_id VARCHAR, row INTEGER, time TIMESTAMPTZ, version VARCHAR, role VARCHAR, latency_ms FLOAT"
LABELS = "request_id VARCHAR, row INTEGER, label VARCHAR, time TIMESTAMPTZ, received TIMESTAMPTZ"


class DayOfLog(Document):
    """What the table of a day holds: its rows, those with a label, and the rows of each version."""

    FILE = "day.json"

    rows: int
    labelled: int
    versions: dict[str, int]
    columns: tuple[str, ...]


def compact(logs: Sequence[Path], labels: Sequence[Path], out: Path, *, without: str) -> DayOfLog:
    """Write log.parquet and day.json into `out`: the rows of `logs`, in the order of their time, with `labels`.

    The table has the columns of the servers' files, and label, label_time and labels_given: of several labels of a row
    the last one received counts. Versions may have had different columns; what one did not have is NULL. Requests
    whose id is `without` are left out.

    Raises:
        DataError: a file cannot be read.
    """
    import duckdb

    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folders = {path.parent for path in (*logs, *labels)} | {out}
        connection = session(folders, Path(scratch), memory_limit_mib(), cores())
        try:
            return _compacted(connection, logs, labels, out, without)
        except duckdb.OutOfMemoryException as error:
            raise out_of_memory(error) from error
        except duckdb.Error as error:
            remedy = "delete the file that is damaged, or restore its older version in the bucket"
            raise DataError(f"The log of the day cannot be read ({cause_of(error)})", remedy=remedy) from error


def _compacted(connection: Any, logs: Sequence[Path], labels: Sequence[Path], out: Path, without: str) -> DayOfLog:
    connection.execute(f"CREATE TEMP TABLE no_rows ({ROWS})")
    connection.execute(f"CREATE TEMP TABLE no_labels ({LABELS})")
    connection.execute(f"CREATE TEMP VIEW asked AS {_all(logs, 'no_rows')}")
    connection.execute(f"CREATE TEMP VIEW told AS {_all(labels, 'no_labels')}")
    connection.execute(
        "CREATE TEMP TABLE known AS SELECT request_id, row, count(*) AS labels_given, "
        "arg_max(label, (received, time)) AS label, arg_max(time, (received, time)) AS label_time "
        "FROM told SEMI JOIN asked USING (request_id, row) GROUP BY ALL"
    )
    found = [row[0] for row in connection.execute("DESCRIBE asked").fetchall()]
    table = out / TABLE
    connection.execute(
        f"COPY (SELECT {', '.join(f'asked.{identifier(name)}' for name in found)}, "
        "label, label_time, coalesce(labels_given, 0) AS labels_given "
        f"FROM asked LEFT JOIN known USING (request_id, row) WHERE request_id <> {quoted(without)} "
        f"ORDER BY time, request_id, row) TO {quoted(str(table))} (FORMAT parquet, COMPRESSION zstd)"
    )
    written = f"read_parquet({quoted(str(table))})"
    rows, labelled = connection.execute(f"SELECT count(*), count(label) FROM {written}").fetchone()
    versions = connection.execute(f"SELECT version, count(*) FROM {written} GROUP BY 1 ORDER BY 1").fetchall()
    columns = tuple(row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {written}").fetchall())
    day = DayOfLog(rows=rows, labelled=labelled, versions=dict(versions), columns=columns)
    day.write(out)
    return day


def _all(paths: Sequence[Path], like: str) -> str:
    """The SQL of the rows of all files, with the columns of an empty table at least."""
    rows = f"SELECT * FROM {like}"
    if paths:
        files = ", ".join(quoted(glob.escape(str(path))) for path in paths)
        rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{files}], union_by_name = true)"
    return rows
