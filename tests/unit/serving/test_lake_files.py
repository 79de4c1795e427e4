"""Where logs are put: as a whole or not at all, twice as once."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import boto3
import pytest

from mlops_assets.serving.lake_files import LakeFolder, LakePrefix, open_lake_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["folder", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("lake")) if request.param == "folder" else request.getfixturevalue("log_bucket")


@pytest.fixture
def log_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    place = {"LocationConstraint": "eu-central-1"}
    boto3.client("s3").create_bucket(Bucket="logs", CreateBucketConfiguration=place)  # pyright: ignore
    return "s3://logs/lake"


def test_a_file_that_is_put_twice_is_there_once(uri: str) -> None:
    store = open_lake_files(uri)
    for _ in range(2):
        store.put("inference/m/2026/11/17/09/a-1.parquet", b"content")
    if isinstance(store, LakeFolder):
        [path] = [path for path in store.folder.rglob("*") if path.is_file()]
        assert path.read_bytes() == b"content"
    else:
        assert isinstance(store, LakePrefix)
        listed = store.client.list_objects_v2(Bucket="logs")["Contents"]
        assert [item["Key"] for item in listed] == ["lake/inference/m/2026/11/17/09/a-1.parquet"]


def test_a_full_disk_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = LakeFolder(tmp_path)
    store.put("a/x.json", b"one")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        store.put("a/x.json", b"two")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "a").iterdir()] == [("x.json", b"one")]
