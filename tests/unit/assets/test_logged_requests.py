"""A request is found with as few files read as can be, which files that cannot be read tell here."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pandas as pd
import pytest

from mlops_assets.assets.logged_requests import days_back, find
from mlops_assets.ml.errors import DataError, SpecError
from resources.lake.lake import Lake

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 17)
DAYS = days_back(TODAY, 3)
UNREADABLE = b"no parquet"


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))
    endpoint, bucket = request.getfixturevalue("s3_endpoint"), f"logged-{uuid.uuid4().hex}"
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return Lake(uri=f"s3://{bucket}/lake", cache=str(tmp_path / "cache"), endpoint_url=endpoint)


def table(*request_ids: str) -> bytes:
    noon = datetime(2026, 11, 17, 12, tzinfo=UTC)
    frame = pd.DataFrame({"request_id": request_ids})
    return frame.assign(row=0, time=noon, version="1", role="champion", latency_ms=0.5).to_parquet()


def put_file(lake: Lake, model: str, day: date, content: bytes, name: str = "server-1") -> None:
    """A file of a server."""
    lake.store.replace(f"inference/{model}/{day:%Y/%m/%d}/12/{name}.parquet", content)


def put_table(lake: Lake, model: str, day: date, content: bytes) -> None:
    """The table of a day."""
    with lake.publishing(f"{model}/inference_log/{day}", f"v{len(content)}") as folder:
        (folder / "log.parquet").write_bytes(content)


def test_the_newest_day_is_looked_at_first_and_no_other_once_it_is_found(lake: Lake) -> None:
    put_file(lake, "m", DAYS[0], table("a"))
    put_file(lake, "m", DAYS[1], table("b", "c"))
    put_file(lake, "m", DAYS[2], UNREADABLE)
    found = find(lake, "c", ["m"], DAYS)
    assert found is not None
    assert (found.model, found.day, found.answers[0].rows) == ("m", DAYS[1], 1)
    with pytest.raises(DataError, match="cannot be read"):
        find(lake, "d", ["m"], DAYS)
    assert find(lake, "d", ["m"], DAYS[:2]) is None


def test_the_table_of_a_day_is_read_instead_of_its_files(lake: Lake) -> None:
    put_file(lake, "m", TODAY, UNREADABLE)
    put_table(lake, "m", TODAY, table("a"))
    assert find(lake, "a", ["m"], DAYS) is not None


def test_what_came_later_than_the_table_is_found_after_all(lake: Lake) -> None:
    put_table(lake, "m", DAYS[2], table("a"))
    put_file(lake, "m", DAYS[2], table("a"))
    put_file(lake, "m", DAYS[2], table("late"), "server-2")
    found = find(lake, "late", ["m"], DAYS)
    assert found is not None
    assert found.day == DAYS[2]


def test_a_table_that_is_damaged_is_left_for_the_files(lake: Lake) -> None:
    put_table(lake, "m", TODAY, table("a"))
    [file] = list(lake.store.sizes("m/**/log.parquet"))
    lake.store.replace(file, UNREADABLE)
    put_file(lake, "m", TODAY, table("a"))
    assert find(lake, "a", ["m"], DAYS) is not None


def test_a_model_that_is_not_named_is_not_looked_at(lake: Lake) -> None:
    put_file(lake, "other", TODAY, table("a"))
    assert find(lake, "a", ["m"], DAYS) is None
    found = find(lake, "a", ["m", "other"], DAYS)
    assert found is not None
    assert found.model == "other"


def test_the_files_of_a_space_are_its_own(lake: Lake) -> None:
    put_file(lake, "ann--m", TODAY, table("a"))
    assert find(lake, "a", ["m"], DAYS) is None
    assert find(lake.model_copy(update={"space": "ann"}), "a", ["m"], DAYS) is not None


def test_the_requests_of_roll_outs_are_nobodys(lake: Lake) -> None:
    with pytest.raises(SpecError, match="golden-rows is the id of the requests by which roll-outs prove versions"):
        find(lake, "golden-rows", ["m"], DAYS)


def test_days_go_back_over_the_end_of_a_month() -> None:
    assert days_back(date(2026, 3, 1), 2) == [date(2026, 3, 1), date(2026, 3, 1) - timedelta(days=1)]
