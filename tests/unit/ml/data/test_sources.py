"""Source files as DuckDB relations: the contract's types, and a session that touches its own folders alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from mlops_assets.ml.data import sources
from mlops_assets.ml.data.contract import CsvDialect, NamedColumn
from mlops_assets.ml.data.sources import columns_of, fits, identifier, quoted, session
from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_assets.ml.data.contract import ColumnType


def contract_rows(connection: Any, paths: list[Path], columns: list[NamedColumn], **dialect: Any) -> str:
    """The SQL of the rows as a preparation reads them."""
    csv = CsvDialect(**dialect)
    return sources.contract_rows(paths, columns, columns_of(connection, paths, csv), csv)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Any]:
    """A session on one folder."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "in").mkdir()
    with session([tmp_path / "in"], tmp_path / "scratch", memory_limit_mib=128, threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "1.5", 1.5),
        ("number", "NaN", None),
        ("number", "many", None),
        ("number", "inf", math.inf),
        ("boolean", "true", True),
        ("boolean", "0.0", False),
        ("boolean", "perhaps", None),
        ("category", "Bern", "Bern"),
        ("category", "NA", None),
        ("timestamp", "2013-06-30T12:00:00+02:00", "2013-06-30 10:00:00"),
        ("timestamp", "yesterday", None),
    ],
)
def test_a_value_has_the_contracts_type_or_is_null(
    connection: Any, tmp_path: Path, kind: ColumnType, text: str, value: object
) -> None:
    (tmp_path / "in/a.csv").write_text(f"a,b\n{text},x\n")
    rows = contract_rows(connection, [tmp_path / "in/a.csv"], [NamedColumn(name="a", type=kind)])
    [(found,)] = connection.execute(rows).fetchall()
    assert (str(found) if kind == "timestamp" and found else found) == value


def test_columns_are_taken_by_name_from_every_file(connection: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "in/a.csv", tmp_path / "in/b.csv"
    first.write_text("a,b\n1,x\n")
    second.write_text("b,c,a\ny,extra,2\n")
    rows = contract_rows(
        connection, [first, second], [NamedColumn(name="b", type="category"), NamedColumn(name="a", type="number")]
    )
    assert sorted(connection.execute(rows).fetchall()) == [("x", 1.0), ("y", 2.0)]


def test_columns_of_parquet_have_its_types(connection: Any, tmp_path: Path) -> None:
    file = tmp_path / "in/b.parquet"
    connection.execute(f"COPY (SELECT 2 AS a, 'y' AS b) TO {quoted(str(file))} (FORMAT parquet)")
    assert columns_of(connection, [file], CsvDialect()) == {"a": "INTEGER", "b": "VARCHAR"}


@pytest.mark.parametrize("name", ["a[1].csv", "what?.csv", "all*.csv", "it's.csv", "Genève.csv"])
def test_a_file_is_read_by_its_name_and_not_by_a_pattern(connection: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / name).write_text("a\n1\n")
    (tmp_path / "in/a1.csv").write_text("a\n2\n")
    rows = contract_rows(connection, [tmp_path / "in" / name], [NamedColumn(name="a", type="number")])
    assert connection.execute(rows).fetchall() == [(1.0,)]


def test_a_folder_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "dir [x] y*"
    folder.mkdir()
    (tmp_path / "scratch").mkdir()
    (folder / "a.csv").write_text("a\n1\n")
    with session([folder], tmp_path / "scratch", memory_limit_mib=128, threads=1) as opened:
        rows = contract_rows(opened, [folder / "a.csv"], [NamedColumn(name="a", type="number")])
        assert opened.execute(rows).fetchall() == [(1.0,)]


@pytest.mark.parametrize(
    ("sql_type", "kind", "fitting"),
    [
        ("DECIMAL(9,2)", "number", True),
        ("UBIGINT", "number", True),
        ("DOUBLE[]", "number", False),
        ("INTERVAL", "number", False),
        ("STRUCT(a BIGINT)", "category", False),
        ("ENUM('a', 'b')", "category", True),
        ("TIMESTAMP WITH TIME ZONE", "timestamp", True),
        ("TIME", "timestamp", False),
    ],
)
def test_a_type_fits_as_a_whole_and_not_by_its_letters(sql_type: str, kind: ColumnType, fitting: bool) -> None:
    assert fits(sql_type, kind) is fitting


def test_names_of_folders_are_no_columns(connection: Any, tmp_path: Path) -> None:
    file = tmp_path / "in/month=7/a.csv"
    file.parent.mkdir()
    file.write_text("month\n1\n")
    rows = contract_rows(connection, [file], [NamedColumn(name="month", type="number")])
    assert connection.execute(rows).fetchall() == [(1.0,)]


def test_quotes_may_come_late(connection: Any, tmp_path: Path) -> None:
    lines = ["a,b", *["1,plain"] * 30_000, '2,"plain"', '3,"Smith, John"', '4,"say ""hi"""']
    (tmp_path / "in/a.csv").write_text("\n".join(lines))
    rows = contract_rows(connection, [tmp_path / "in/a.csv"], [NamedColumn(name="b", type="category")])
    found = connection.execute(f"SELECT DISTINCT b FROM ({rows}) ORDER BY 1").fetchall()
    assert found == [("Smith, John",), ("plain",), ('say "hi"',)]


def test_a_file_that_cannot_be_read_is_named(connection: Any, tmp_path: Path) -> None:
    (tmp_path / "in/a.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet .*; replace or remove the object"):
        columns_of(connection, [tmp_path / "in/a.parquet"], CsvDialect())


@pytest.mark.parametrize(
    "statement",
    ["FROM read_csv('{outside}/a.csv')", "COPY (SELECT 1) TO '{outside}/b.csv'", "SET enable_external_access = true"],
)
def test_a_session_keeps_to_its_folders(connection: Any, tmp_path: Path, statement: str) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(duckdb.Error):
        connection.execute(statement.format(outside=tmp_path))
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize("name", ["a", 'say "hi"', "o'Brien", "a; DROP TABLE b", "Genève"])
def test_any_name_and_any_text_can_be_quoted(connection: Any, name: str) -> None:
    cursor = connection.execute(f"SELECT {quoted(name)} AS {identifier(name)}")
    assert cursor.description[0][0] == name
    assert cursor.fetchone() == (name,)
