"""raw_data: which objects a run reads, and which window of their rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.assets import raw_data
from mlops_assets.assets.raw_data import (
    data_until,
    in_window,
    inspect,
    last_partition,
    list_objects,
    raw_data_asset,
    used_window,
)
from mlops_assets.ml.data.source_checks import FileReport, check_sources
from mlops_assets.ml.errors import DataError
from mlops_assets.spec.source import Source
from resources.lake.lake import Lake
from resources.lake.object_store import SourceObject
from tests.support import spec, weather

if TYPE_CHECKING:
    from pathlib import Path

JUNE = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC)
MONTHS = Source(uri="w/*.csv", event_time="time", partition_by="month", window=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


def test_the_example_is_written_where_the_source_has_no_objects(lake: Lake) -> None:
    source, logged = Source(uri="iris/*.csv", example="mlops_assets.datasets.iris"), list[str]()
    assert [item.key for item in list_objects(source, lake, logged.append)] == ["iris/iris.csv"]
    assert "writing the example data of mlops_assets.datasets.iris" in logged[0]
    list_objects(source, lake, lambda _: pytest.fail("there are objects now"))


def test_the_example_of_a_source_at_the_root_lies_in_the_lake(lake: Lake) -> None:
    source = Source(uri="*.csv", example="mlops_assets.datasets.iris")
    assert [item.key for item in list_objects(source, lake, lambda _: None)] == ["iris.csv"]


@pytest.mark.parametrize(
    ("uri", "kinds"), [("s3://bucket/w/*.csv", {"s3"}), ("w/*.csv", set()), ("/data/w.csv", set())]
)
def test_the_asset_has_the_kind_of_the_store_that_its_address_names(uri: str, kinds: set[str]) -> None:
    [asset] = raw_data_asset(spec(source={"uri": uri})).specs
    assert asset.kinds == kinds


def test_a_source_of_nothing_is_told(lake: Lake) -> None:
    with pytest.raises(DataError, match=r"There are no objects at w/\*\.csv; put data there"):
        list_objects(Source(uri="w/*.csv"), lake, print)
    lake.store.replace("w/a.csv", b"")
    with pytest.raises(DataError, match=r"All 1 objects at w/\*\.csv are empty"):
        list_objects(Source(uri="w/*.csv"), lake, print)


def test_without_partitions_all_rows_are_used() -> None:
    assert last_partition(Source(uri="w/*.csv"), None, None) is None
    assert used_window(Source(uri="w/*.csv"), None) == (None, None)
    with pytest.raises(DataError, match=r"has no partitions, so 2013-06 means nothing; set source\.partition_by"):
        last_partition(Source(uri="w/*.csv"), "2013-06", None)


def test_the_window_ends_with_the_partition_that_is_asked_for_or_the_newest() -> None:
    assert last_partition(MONTHS, "2013-06", datetime(2013, 9, 3, tzinfo=UTC)) == "2013-06"
    assert last_partition(MONTHS, None, datetime(2013, 6, 30, 23, 59, tzinfo=UTC)) == "2013-06"
    assert used_window(MONTHS, "2013-06") == JUNE


def test_without_a_window_the_newest_partition_bounds_nothing() -> None:
    whole = MONTHS.model_copy(update={"window": None})
    assert last_partition(whole, None, datetime(2013, 6, 3, tzinfo=UTC)) is None
    assert used_window(whole, "2013-06") == (None, JUNE[1])


def test_data_lasts_until_its_newest_row_or_the_end_of_the_window() -> None:
    newest = datetime(2013, 6, 20, tzinfo=UTC)
    assert data_until(None, newest.replace(tzinfo=None)) == newest
    assert data_until(JUNE[1], newest) == newest
    assert data_until(JUNE[0], newest) == JUNE[0]
    assert data_until(None, None) is None


def files_of_two_months() -> tuple[list[SourceObject], list[FileReport]]:
    objects = [SourceObject(key=f"w/{name}.csv", etag=name, size=1) for name in ("may", "june", "empty")]
    may, june = datetime(2013, 5, 3), datetime(2013, 6, 3)
    columns = ("at",)
    return objects, [
        FileReport(rows=2, columns=columns, first_event=may, last_event=may),
        FileReport(rows=2, columns=columns, first_event=june, last_event=june),
        FileReport(rows=0, columns=columns),
    ]


def test_only_objects_with_rows_of_the_window_are_read() -> None:
    objects, files = files_of_two_months()
    start, end = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC)
    assert [item.etag for item in in_window(objects, files, start, end)] == ["june"]
    assert [item.etag for item in in_window(objects, files, None, end)] == ["may", "june"]
    assert in_window(objects, files, None, None) == objects


def test_a_window_without_rows_is_told() -> None:
    objects, files = files_of_two_months()
    with pytest.raises(DataError, match="No row lies in the time window; widen source.window"):
        in_window(objects, files, None, datetime(2013, 5, 1, tzinfo=UTC))


def test_objects_are_compared_with_a_contract_once_and_again_where_what_was_written_down_is_damaged(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lake/weather").mkdir(parents=True)
    weather(20).to_csv(tmp_path / "lake/weather/a.csv", index=False)
    read = list[int]()

    def counted(paths: list[Path], *arguments: Any, **named: Any) -> list[FileReport]:
        read.append(len(paths))
        return check_sources(paths, *arguments, **named)

    monkeypatch.setattr(raw_data, "check_sources", counted)
    objects = lake.list_sources("weather/*.csv")
    first = inspect(spec(), lake, objects)
    assert inspect(spec(), lake, objects) == first
    assert read == [1]
    [written] = (tmp_path / "lake/weather/raw_data/inspected").iterdir()
    written.write_text('{"files": {"x": 3')
    assert inspect(spec(), lake, objects) == first
    assert read == [1, 1]
