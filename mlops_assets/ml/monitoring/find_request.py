"""The rows of one request in files of the inference log, whose other rows are not read."""

from __future__ import annotations

import glob
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

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
    import duckdb

    if not files:
        return []
    named = ", ".join(quoted(glob.escape(str(path))) for path in files)
    with tempfile.TemporaryDirectory() as scratch:
        connection = session({path.parent for path in files}, Path(scratch), memory_limit_mib(), cores())
        try:
            found = connection.execute(
                "SELECT version, role, epoch_us(time), count(*), any_value(latency_ms) "
                f"FROM read_parquet([{named}], union_by_name = true) WHERE request_id = ? "
                "GROUP BY version, role, time ORDER BY time, role",
                [request_id],
            ).fetchall()
        except duckdb.Error as error:
            remedy = "delete the file that is damaged, or restore its older version in the bucket"
            raise DataError(f"The inference log cannot be read ({cause_of(error)})", remedy=remedy) from error
    return [
        LoggedAnswer(
            version=version, role=role, time=datetime.fromtimestamp(moment / 1e6, UTC), rows=rows, latency_ms=latency_ms
        )
        for version, role, moment, rows, latency_ms in found
    ]
