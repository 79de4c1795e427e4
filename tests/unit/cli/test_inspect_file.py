"""What a file holds: dialect, and types with which each value is read."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mlops_assets.cli.inspect_file import inspect_file
from mlops_assets.ml.data.contract import RFC_4180
from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.cli.inspect_file import ColumnFacts


def columns(file: Path) -> dict[str, ColumnFacts]:
    return {column.name: column for column in inspect_file(file).columns}


def csv(folder: Path, text: str, name: str = "a.csv", encoding: str = "utf-8") -> Path:
    content = text.encode(encoding)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", "-1e3"], "number"),
        (["1", "", "NA"], "number"),
        (["01", "02", "17"], "category"),
        (["0.5", "0.7", "0"], "number"),
        (["true", "False", "TRUE"], "boolean"),
        (["2025-01-31", "2025-02-28", ""], "timestamp"),
        (["2025-01-31 10:00:00", "2025-01-31T10:00:00Z", "2025-01-31"], "timestamp"),
        (["a", "1", "2"], "category"),
    ],
)
def test_a_column_of_csv_has_the_narrowest_type_that_every_value_has(
    tmp_path: Path, values: list[str], kind: str
) -> None:
    file = csv(tmp_path, "x,other\n" + "".join(f"{value},{row}\n" for row, value in enumerate(values)))
    assert columns(file)["x"].type == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "number"),
        ([1.5, None], "number"),
        ([True, False], "boolean"),
        (["1", "2"], "category"),
        (["a", None], "category"),
        (pd.to_datetime(["2025-01-01", "2025-01-02"]), "timestamp"),
        (pd.Categorical(["a", "b"]), "category"),
    ],
)
def test_a_column_of_parquet_has_the_type_it_is_stored_with(tmp_path: Path, values: Any, kind: str) -> None:
    pd.DataFrame({"x": values}).to_parquet(tmp_path / "a.parquet")
    assert columns(tmp_path / "a.parquet")["x"].type == kind


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_the_dialect_is_found(tmp_path: Path, name: str) -> None:
    rows = "".join(f"{row},5;{row % 28 + 1:02}.03.2025;'a;b'\n" for row in range(40))
    facts = inspect_file(csv(tmp_path, f"amount;day;text\n{rows}", name))
    assert facts.csv == RFC_4180.model_copy(
        update={"delimiter": ";", "decimal": ",", "date_format": "%d.%m.%Y", "quote": "'"}
    )
    assert [column.type for column in facts.columns] == ["number", "timestamp", "category"]
    assert facts.rows == 40


@pytest.mark.parametrize(
    ("delimiter", "values", "decimal", "thousands"),
    [
        (",", ["1,234.50", "17.25", "-12,345,678"], ".", ","),
        (",", ["1,234", "987", "12,500"], ".", ","),
        (",", ["1.234,50", "17,25"], ",", "."),
        (";", ["1.234,50", "17,25", "2.345.678"], ",", "."),
        (";", ["1,234,567", "12"], ".", ","),
        (";", ["1'234.5", "12"], ".", "'"),
        (";", ["1 234,5", "12", ""], ",", " "),
        (";", ["1,234", "2,500"], ",", ""),  # a little over 1, as everywhere with such a delimiter
    ],
)
def test_the_marks_of_numbers_are_found(
    tmp_path: Path, delimiter: str, values: list[str], decimal: str, thousands: str
) -> None:
    shown = [f'"{value}"' if delimiter in value else value for value in values * 20]
    rows = "".join(f"{value}{delimiter}text {row}\n" for row, value in enumerate(shown))
    facts = inspect_file(csv(tmp_path, f"amount{delimiter}text\n{rows}"))
    assert (facts.csv.decimal, facts.csv.thousands) == (decimal, thousands)
    assert [column.type for column in facts.columns] == ["number", "category"]


@pytest.mark.parametrize(
    "values",
    [
        ["1,234.50", "12,34.5"],
        ["0,123", "1,500"],
        ["192.168.100.200", "10.0.0.1"],
        ["079 123 456", "079 456 789"],
        ["1,234.50", "on request"],
    ],
)
def test_what_one_value_does_not_fit_are_no_thousands(tmp_path: Path, values: list[str]) -> None:
    rows = "".join(f'"{value}",{row}.5\n' for row, value in enumerate(values * 20))
    facts = inspect_file(csv(tmp_path, f"amount,share\n{rows}"))
    assert facts.csv == RFC_4180
    assert [column.type for column in facts.columns] == ["category", "number"]


def test_thousands_in_one_column_leave_no_other_number_a_thousandfold(tmp_path: Path) -> None:
    rows = "".join(f"1.234,50;2.345,75;{row % 10}.{row}\n" for row in range(40))
    facts = inspect_file(csv(tmp_path, f"net;gross;share\n{rows}"))
    assert (facts.csv.decimal, facts.csv.thousands) == (",", ".")
    assert [column.type for column in facts.columns] == ["number", "number", "category"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_the_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    file = csv(tmp_path, "place,x\n" + "Zürich,1\nGenève,2\n" * 30, encoding=encoding)
    facts = inspect_file(file)
    assert facts.csv.encoding == encoding
    assert facts.columns[0].commonest == "Genève"


def test_missing_and_different_values_are_counted(tmp_path: Path) -> None:
    found = columns(csv(tmp_path, "x,y\n1,a\n1,\n2,b\n,b\n"))
    assert (found["x"].missing, found["x"].distinct, found["x"].whole) == (1, 2, True)
    assert (found["x"].commonest_rows, found["y"].commonest, found["y"].missing) == (2, "b", 1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"id-{row}" for row in range(100)], "each row has another value"),
        ([f"text {row // 2 if row < 80 else row}" for row in range(100)], "it has 60 different texts"),
        (["same"] * 100, "it has one value only"),
        ([None] * 100, "it has no value"),
        (list(range(7, 107)), "it numbers the rows"),
        (pd.date_range("2025-01-01", periods=100), "it is a time"),
        ([row % 7 for row in range(100)], ""),
        ([row * 1.1 for row in range(100)], ""),
        (["inf" if row % 6 == 0 else row * 1.1 for row in range(100)], "it is infinite in 17 rows"),
        ([2**53 + row for row in range(100)], "each row has another value"),  # a name that is made of digits
    ],
)
def test_it_says_why_nothing_can_be_learnt_from_a_column(tmp_path: Path, values: Any, reason: str) -> None:
    pd.DataFrame({"x": values, "y": range(100)}).to_csv(tmp_path / "a.csv", index=False)
    assert columns(tmp_path / "a.csv")["x"].no_feature == reason


def test_columns_that_no_contract_can_have_are_left_out_with_the_reason(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1, 2], "list": [[1], [2]], "{{ env.HOME }}": [1, 2], "a\nb": [1, 2]})
    table.index = pd.Index([3, 5])
    table.to_parquet(tmp_path / "a.parquet")
    facts = inspect_file(tmp_path / "a.parquet")
    assert [column.name for column in facts.columns] == ["x"]
    assert facts.left_out == {
        "list": "it is of type BIGINT[]",
        "{{ env.HOME }}": "its name cannot stand in a YAML",
        "a\nb": "its name cannot stand in a YAML",
        "__index_level_0__": "it is the index that pandas writes",
    }


@pytest.mark.parametrize(("name", "content"), [("a.parquet", b"no parquet"), ("a.csv", b""), ("a.csv", b"x,y\n")])
def test_a_file_without_rows_is_refused_with_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        inspect_file(tmp_path / name)


def test_a_file_is_looked_at_by_its_name_and_not_by_a_pattern(tmp_path: Path) -> None:
    """`sales[1].csv`, as browsers call a second download, is the pattern of `sales1.csv`."""
    csv(tmp_path, "q;z\n1;2\n", "sales1.csv")
    assert list(columns(csv(tmp_path, "a,b\n1,x\n2,y\n", "sales[1].csv"))) == ["a", "b"]


def test_bytes_that_are_no_text_are_told_as_such(tmp_path: Path) -> None:
    pd.DataFrame({"x": [b"\xff\xfe", b"\x80"] * 10, "y": range(20)}).to_parquet(tmp_path / "a.parquet")
    assert columns(tmp_path / "a.parquet")["x"].no_feature == "its values are no text"


def test_a_file_that_is_no_gzip_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"a\.csv\.gz is no whole gzip file .*give it the name that fits it"):
        inspect_file(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_line_that_is_too_short_is_told_with_its_number(tmp_path: Path, mark: str) -> None:
    lines = ["a,b,y", *(f"{row},{row * 2},1" for row in range(40)), "7,8"]
    with pytest.raises(DataError, match=r"a\.csv cannot be read as CSV \(line 42 has 2 fields, and the header 3\)"):
        inspect_file(csv(tmp_path, "\n".join(lines).replace(",", mark) + "\n"))


def test_the_line_in_which_spreadsheets_look_for_the_delimiter_is_told(tmp_path: Path) -> None:
    lines = ["sep=;", "a;y", *(f"{row};1" for row in range(40))]
    with pytest.raises(DataError, match=r"says to spreadsheets what the delimiter is; remove that line"):
        inspect_file(csv(tmp_path, "\n".join(lines) + "\n"))
