"""Labels from a table: what fits is stored as servers store it, and one row that does not fit stops all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.monitoring.label_table import write_labels
from mlops_assets.serving.log_files import Label, labels_file

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Classes

NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)


def imported(folder: Path, text: str, classes: Classes | None) -> list[tuple[Any, ...]]:
    """What is stored of a CSV file."""
    (folder / "given.csv").write_text(text)
    count = write_labels(folder / "given.csv", folder / "out.parquet", classes, NOON)
    frame = pd.read_parquet(folder / "out.parquet")
    assert len(frame) == count
    return [*frame.itertuples(index=False, name=None)]


def test_what_is_not_given_is_row_0_and_now(tmp_path: Path) -> None:
    text = "request_id,label,row,time\na,yes,,\nb,no,3,2026-11-01T10:00:00+02:00\n"
    eight = datetime(2026, 11, 1, 8, tzinfo=UTC)
    assert imported(tmp_path, text, ("no", "yes")) == [("a", 0, "yes", NOON, NOON), ("b", 3, "no", eight, NOON)]
    assert imported(tmp_path, "label,request_id\nyes,a\n", ("no", "yes")) == [("a", 0, "yes", NOON, NOON)]


def test_the_file_has_the_columns_of_those_that_servers_write(tmp_path: Path) -> None:
    imported(tmp_path, "request_id,label\na,1\n", (0, 1))
    (tmp_path / "servers.parquet").write_bytes(labels_file([Label("m", "a", 0, "1", NOON, NOON)]))
    ours, theirs = (pq.read_schema(tmp_path / name) for name in ("out.parquet", "servers.parquet"))
    assert ours.names == theirs.names
    assert [str(kind) for kind in ours.types] == [str(kind) for kind in theirs.types]


@pytest.mark.parametrize(
    ("classes", "given", "stored"),
    [
        ((False, True), ["0", "1", "false", "True", "1.0"], ["0", "1", "0", "1", "1"]),
        ((0, 1), ["0", "1.0", "true"], ["0", "1", "1"]),
        ((2, 3), ["2", "3.0"], ["2", "3"]),
        ((0.5, 1.5), ["0.5", "1.5"], ["0.5", "1.5"]),
        (("0", "1"), ["0", "1"], ["0", "1"]),
        (("it's", "O-8 4"), ["it's", "O-8 4"], ["it's", "O-8 4"]),
        (None, ["1", "-2.5e3", "0.1"], ["1.0", "-2500.0", "0.1"]),
    ],
    ids=str,
)
def test_a_label_is_stored_as_the_graph_answers_it(
    tmp_path: Path, classes: Classes | None, given: list[str], stored: list[str]
) -> None:
    rows = "".join(f"r{index},{label}\n" for index, label in enumerate(given))
    assert [row[2] for row in imported(tmp_path, f"request_id,label\n{rows}", classes)] == stored


@pytest.mark.parametrize("labels", [[True, False], [1, 0], [1.0, 0.0]], ids=str)
def test_parquet_has_types_of_its_own(tmp_path: Path, labels: list[Any]) -> None:
    frame = pd.DataFrame({"request_id": ["a", "b"], "label": labels, "row": [1.0, None]})
    frame["time"] = pd.Timestamp("2026-11-01T10:00:00Z")
    frame.to_parquet(tmp_path / "given.parquet")
    assert write_labels(tmp_path / "given.parquet", tmp_path / "out.parquet", (False, True), NOON) == 2
    stored = pd.read_parquet(tmp_path / "out.parquet")
    assert [*stored["label"]] == ["1", "0"]
    assert [*stored["row"]] == [1, 0]
    assert stored["time"][0] == datetime(2026, 11, 1, 10, tzinfo=UTC)


BROKEN = {
    "no id": (
        "request_id,label\na,1\n,0\n",
        "given.csv: row 2: request_id is missing, but must be the id of a request",
    ),
    "long id": (f"request_id,label\n{'a' * 129},1\n", "row 1: request_id is 'aaaa"),
    "id with a space": ("request_id,label\na b,1\n", "row 1: request_id is 'a b'"),
    "another class": (
        "request_id,label\na,1\nb,0\nc,2\nd,3\n",
        "row 3: label is '2', but must be one of 0, 1; correct",
    ),
    "no label": ("request_id,label\na,\n", "row 1: label is missing"),
    "half a row": ("request_id,label,row\na,1,1.5\n", "row 1: row is '1.5', but must be the number of a row"),
    "row below 0": ("request_id,label,row\na,1,-1\n", "row 1: row is '-1'"),
    "row too large": ("request_id,label,row\na,1,2147483648\n", "row 1: row is '2147483648'"),
    "no zone": ("request_id,label,time\na,1,2026-11-01T10:00:00\n", "time is '2026-11-01T10:00:00', but must be a mom"),
    "a day alone": ("request_id,label,time\na,1,2026-11-01\n", "time is '2026-11-01', but must be a mom"),
    "a year beyond": ("request_id,label,time\na,1,290000-11-01T10:00:00Z\n", "time is '290000-11-01T10:00:00Z', but"),
    "before all years": ("request_id,label,time\na,1,0001-01-01T00:00:00+14:00\n", "time is '0001-01-01T"),
    "no time": ("request_id,label,time\na,1,tomorrow\n", "row 1: time is 'tomorrow'"),
    "no such day": ("request_id,label,time\na,1,2026-02-30T10:00:00Z\n", "row 1: time is '2026-02-30"),
    "two truths": ("request_id,label\na,1\nb,1\na,0\n", "row 3: it gives a another label than row 1, at the same time"),
    "no such column": (
        "request_id,label,rows\na,1,0\n",
        "given.csv: it has a column rows; give request_id, label, and",
    ),
    "column missing": (
        "id,label\na,1\n",
        "given.csv: it has no column request_id; give request_id, label, and row and",
    ),
    "no rows": ("request_id,label\n", "given.csv: it has no rows"),
    "nothing": ("", "given.csv: it "),
}


@pytest.mark.parametrize(("text", "told"), BROKEN.values(), ids=BROKEN)
def test_what_does_not_fit_is_told_by_its_row_and_nothing_is_written(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        imported(tmp_path, text, (0, 1))
    assert told in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("label", ["nan", "inf", "true", "x"])
def test_a_regression_wants_finite_numbers(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match=f"row 1: label is '{label}', but must be a number"):
        imported(tmp_path, f"request_id,label\na,{label}\n", None)


def test_the_row_that_is_told_is_the_first_of_many(tmp_path: Path) -> None:
    rows = [f"r{index},{int(index not in (150_000, 299_999)) + 1}" for index in range(300_000)]
    with pytest.raises(DataError, match="row 150001: label is '1', but must be one of 2"):
        imported(tmp_path, "request_id,label\n" + "\n".join(rows), (2,))


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.parquet"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello")
    with pytest.raises(DataError, match=f"{name}: it (is neither CSV nor Parquet|cannot be read)"):
        write_labels(tmp_path / name, tmp_path / "out.parquet", None, NOON)
