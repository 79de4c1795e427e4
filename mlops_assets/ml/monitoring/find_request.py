"""The rows of one request in files of the inference log, whose other rows are not read."""

from __future__ import annotations

import glob
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.machine import cores, memory_limit_mib
from mlops_assets.ml.data.sources import cause_of, quoted, session
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence


class LoggedAnswer(Value):
    """What one version answered to a request, and as what it did."""

    version: str
    role: str
    time: datetime
    rows: int
    latency_ms: float


def find_request(files: Sequence[Path], request_id: str) -> list[LoggedAnswer]:
    """What was answered to the request, in the order of time; a caller may have given several requests one id.

    Raises:
        DataError: a file cannot be read.
    """
    found = _selected(
        "SELECT version, role, epoch_us(time) AS moment, count(*) AS rows, any_value(latency_ms) AS latency_ms "
        "FROM {files} WHERE request_id = ? GROUP BY version, role, time ORDER BY time, role",
        files,
        request_id,
    )
    return [LoggedAnswer(time=datetime.fromtimestamp(row.pop("moment") / 1e6, UTC), **row) for row in found]


def rows_of_request(files: Sequence[Path], request_id: str) -> list[dict[str, Any]]:
    """The rows of the request as the log has them, in the order of time and of their numbers.

    Raises:
        DataError: a file cannot be read.
    """
    return _selected(
        "SELECT * EXCLUDE (time), epoch_us(time) AS time FROM {files} WHERE request_id = ? ORDER BY time, role, row",
        files,
        request_id,
    )


def _selected(query: str, files: Sequence[Path], request_id: str) -> list[dict[str, Any]]:
    import duckdb

    if not files:
        return []
    named = ", ".join(quoted(glob.escape(str(path))) for path in files)
    with tempfile.TemporaryDirectory() as scratch:
        connection = session({path.parent for path in files}, Path(scratch), memory_limit_mib(), cores())
        try:
            query = query.format(files=f"read_parquet([{named}], union_by_name = true)")
            found = connection.execute(query, [request_id])
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as error:
            remedy = "delete the file that is damaged, or restore its older version in the bucket"
            raise DataError(f"The inference log cannot be read ({cause_of(error)})", remedy=remedy) from error
