"""The store in S3, by a real S3 API on this machine."""

from __future__ import annotations

import boto3

from mlops_assets.testing import check_object_store
from resources.lake.stores import open_store


def test_s3_keeps_the_promises_of_a_store(s3_endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="conformance", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    check_object_store(open_store("s3://conformance/lake", s3_endpoint))
