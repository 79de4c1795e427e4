"""A lake of each kind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import boto3
import pytest

from resources.lake.lake import Lake

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on a folder, and one in S3."""
    if request.param == "folder":
        return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = f"lake-{tmp_path.name[-30:].replace('_', '-').lower().strip('-')}-{time.time_ns()}"[:63]
    client = boto3.client("s3", endpoint_url=endpoint, region_name="eu-central-1")
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return Lake(uri=f"s3://{bucket}/deep/prefix", cache=str(tmp_path / "cache"), endpoint_url=endpoint)
