"""One request in files of the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.monitoring.find_request import find_request

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)


def rows(request_id: str, count: int = 1, **more: Any) -> list[dict[str, Any]]:
    given = {"request_id": request_id, "time": NOON, "version": "1", "role": "champion", "latency_ms": 0.5}
    return [given | {"row": row} | more for row in range(count)]


def write(path: Path, *requests: list[dict[str, Any]]) -> Path:
    pd.DataFrame([row for request in requests for row in request]).to_parquet(path)
    return path


def test_the_answers_of_all_versions_are_found_in_the_order_of_time(tmp_path: Path) -> None:
    later = NOON + timedelta(milliseconds=3)
    files = [
        write(tmp_path / "a[1].parquet", rows("other"), rows("r", role="candidate", version="2", time=later)),
        write(tmp_path / "b.parquet", rows("r", 3, **{"input:x": 1.0})),
    ]
    found = find_request(files, "r")
    assert [(one.version, one.role, one.time, one.rows) for one in found] == [
        ("1", "champion", NOON, 3),
        ("2", "candidate", later, 1),
    ]
    assert found[0].latency_ms == pytest.approx(0.5)
    assert find_request(files, "' OR 1=1 --") == []
    assert find_request([], "r") == []


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"The inference log cannot be read \(.*a.parquet.*; delete the file"):
        find_request([tmp_path / "a.parquet"], "r")
