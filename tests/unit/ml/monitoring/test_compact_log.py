"""The log of a day: every row once, each with the label that counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.monitoring.compact_log import TABLE, compact

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)


def asked(request_id: str, row: int = 0, **more: Any) -> dict[str, Any]:
    given = {"request_id": request_id, "row": row, "time": NOON, "version": "1", "role": "champion", "latency_ms": 0.5}
    return given | {"input:x": 1.0, "output:prediction": 2.0} | more


def told(request_id: str, label: str, minutes: int, row: int = 0) -> dict[str, Any]:
    moment = NOON + timedelta(minutes=minutes)
    return {"request_id": request_id, "row": row, "label": label, "time": moment, "received": moment}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pd.DataFrame(rows)
    frame["row"] = frame["row"].astype("int32")
    frame.to_parquet(path)
    return path


def day(folder: Path, logs: list[list[dict[str, Any]]], labels: list[list[dict[str, Any]]]) -> tuple[Any, pd.DataFrame]:
    (folder / "out").mkdir()
    files = [write(folder / f"log[{index}].parquet", rows) for index, rows in enumerate(logs)]
    known = [write(folder / f"label-{index}.parquet", rows) for index, rows in enumerate(labels)]
    found = compact(files, known, folder / "out", without="golden-rows")
    return found, pd.read_parquet(folder / "out" / TABLE)


def test_of_several_labels_the_last_one_counts_in_whatever_order_their_files_come(tmp_path: Path) -> None:
    labels = [[told("a", "0", 9)], [told("a", "1", 5), told("b", "1", 1, row=1)], [told("none", "1", 1)]]
    found, table = day(tmp_path, [[asked("a"), asked("b"), asked("b", row=1)]], labels)
    assert (found.rows, found.labelled, found.versions) == (3, 2, {"1": 3})
    by_row = table.set_index(["request_id", "row"])
    assert by_row["label"].to_dict() == {("a", 0): "0", ("b", 0): None, ("b", 1): "1"}
    assert by_row["labels_given"].to_dict() == {("a", 0): 2, ("b", 0): 0, ("b", 1): 1}


def test_versions_with_other_columns_lie_in_one_table(tmp_path: Path) -> None:
    second = asked("b", version="2") | {"input:place of birth": "Bern"}
    del second["input:x"]
    found, table = day(tmp_path, [[asked("a")], [second]], [])
    assert found.versions == {"1": 1, "2": 1}
    assert {"input:x", "input:place of birth"} <= set(found.columns)
    assert table.set_index("request_id")["input:place of birth"].to_dict() == {"a": None, "b": "Bern"}


def test_requests_of_proofs_are_none_of_users(tmp_path: Path) -> None:
    found, table = day(tmp_path, [[asked("golden-rows"), asked("a")]], [])
    assert (found.rows, table["request_id"].tolist()) == (1, ["a"])


def test_a_day_without_requests_is_an_empty_table(tmp_path: Path) -> None:
    found, table = day(tmp_path, [], [[told("a", "1", 1)]])
    assert (found.rows, found.labelled, len(table)) == (0, 0, 0)


def test_labels_that_somebody_wrote_need_no_time_of_receipt(tmp_path: Path) -> None:
    label = told("a", "1", 3)
    del label["received"]
    assert day(tmp_path, [[asked("a")]], [[label]])[0].labelled == 1


def test_a_file_that_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="The log of the day cannot be read"):
        compact([tmp_path / "a.parquet"], [], tmp_path / "out", without="")


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1)), max_size=12),
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 1), st.integers(0, 9)), max_size=9, unique_by=lambda x: x[2]
    ),
)
def test_every_row_is_there_once_with_its_last_label(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[str, int]], given_labels: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("day")
    logs = [[asked(name, row)] for name, row in requests]
    labels = [[told(name, str(minute), minute, row)] for name, row, minute in given_labels]
    found, table = day(folder, logs, labels)
    expected = {}
    for name, row, minute in sorted(given_labels, key=lambda label: label[2]):
        expected[name, row] = str(minute)
    rows = sorted(zip(table["request_id"], table["row"], strict=True))
    assert rows == sorted(requests)
    assert found.labelled == sum(key in expected for key in requests)
    assert all(
        label == expected.get((name, row))
        for name, row, label in zip(table["request_id"], table["row"], table["label"], strict=True)
    )
