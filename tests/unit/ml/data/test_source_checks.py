"""What is wrong with a source file is found and named before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mlops_assets.ml.data.contract import NamedColumn
from mlops_assets.ml.data.source_checks import check_sources, source_report
from mlops_assets.ml.errors import DataError
from tests.preparation import COLUMNS
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

BROKEN_FILES = {
    "missing column": ("a.csv", b"place,humidity,rain\nBern,1000,true\n", "a.csv has no column pressure"),
    "wrong type": (
        "a.csv",
        b"place,pressure,humidity,rain\nBern,high,3,true\n",
        "1 values that are no number, such as 'high'",
    ),
    "wrong boolean": ("a.csv", b"place,pressure,humidity,rain\nBern,1000,3,perhaps\n", "no boolean, such as 'perhaps'"),
    "no rows": ("a.csv", b"place,pressure,humidity,rain\n", "hold no rows"),
    "empty file": ("a.csv", b"", "a.csv is empty"),
    "not Parquet": ("a.parquet", b"this is no Parquet file at all", "a.parquet cannot be read as Parquet"),
    "row too short": (
        "a.csv",
        b"place,pressure,humidity,rain\n" + b"Bern,1000,3,true\n" * 50 + b"Bern,1000\n",
        r"a\.csv: .*Line: 52.*Expected Number of Columns: 4 Found: 2; correct that line",
    ),
    "row too long": (
        "a.csv",
        b"place,pressure,humidity,rain\n" + b"Bern,1000,3,true\n" * 50 + b"Bern,1000,3,true,5\n",
        r"a\.csv: .*Line: 52.*Expected Number of Columns: 4 Found: 5; correct that line",
    ),
    "a second table of another width": (
        "a.csv",
        b"place,pressure,humidity,rain\n"
        + b"Bern,1000,3,true\n" * 974
        + b"place,pressure,humidity,rain,note\n"
        + b"Bern,1000,3,true,x\n" * 300,
        r"a\.csv: .*Line: 976.*correct that line",
    ),
    "Latin-1": (
        "a.csv",
        "place,pressure,humidity,rain\nGenève,1000,3,true\n".encode("latin-1"),
        r"a\.csv cannot be read as CSV \(.*This file is not utf-8 encoded",
    ),
    "binary CSV": ("a.csv", bytes(range(256)) * 20, "a.csv (cannot be read|has no column)"),
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_source_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    good = tmp_path / f"good.{name.rpartition('.')[2]}"
    weather().to_parquet(good) if good.suffix == ".parquet" else weather().to_csv(good, index=False)
    (tmp_path / name).write_bytes(content)
    sources = [tmp_path / name] if "rows" in message else [good, tmp_path / name]
    with pytest.raises(DataError, match=message):
        source_report(check_sources(sources, COLUMNS), COLUMNS)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    weather(20_000).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        check_sources([path], COLUMNS)


def test_a_parquet_column_of_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    weather().assign(pressure=pd.Timestamp("2025-01-01")).to_parquet(path)
    with pytest.raises(DataError, match="column pressure has the type TIMESTAMP.*, but the contract says number"):
        check_sources([path], COLUMNS)


def test_extra_columns_are_reported_and_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    weather().assign(wind=3).to_parquet(path)
    assert source_report(check_sources([path], COLUMNS), COLUMNS).extra_columns == ("wind",)


def test_each_file_is_told_with_its_rows_and_the_times_of_its_first_and_last(tmp_path: Path) -> None:
    columns = (*COLUMNS, NamedColumn(name="at", type="timestamp"))
    for index, start in enumerate(("2025-01-01", "2025-02-01")):
        weather(10).assign(at=pd.date_range(start, periods=10)).to_csv(tmp_path / f"{index}.csv", index=False)
    (tmp_path / "2.csv").write_text("place,pressure,humidity,rain,at\n")
    first, second, empty = check_sources([tmp_path / f"{i}.csv" for i in range(3)], columns, event_time="at")
    assert (first.rows, second.rows, empty.rows) == (10, 10, 0)
    assert (str(first.first_event), str(second.last_event)) == ("2025-01-01 00:00:00", "2025-02-10 00:00:00")
    assert empty.last_event is None
