"""The conformance test of object stores: ours pass it, and one that overwrites fails with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.testing import check_object_store
from resources.lake.folder_store import FolderStore
from resources.lake.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_keeps_the_promises_of_a_store(tmp_path: Path) -> None:
    check_object_store(FolderStore(tmp_path))


def test_s3_keeps_the_promises_of_a_store(s3_endpoint: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="conformance", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    check_object_store(open_store("s3://conformance/lake", s3_endpoint))


class Overwriting(FolderStore):
    """Forgets to look whether a key is there."""

    def create(self, key: str, content: bytes) -> bool:
        self.replace(key, content)
        return True


def test_a_store_that_overwrites_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="create leaves a key that is there"):
        check_object_store(Overwriting(tmp_path))
