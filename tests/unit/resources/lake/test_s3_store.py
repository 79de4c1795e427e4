"""The store in S3, by a real S3 API on this machine."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from mlops_assets.ml.errors import LakeError
from mlops_assets.testing import check_object_store
from resources.lake.s3_store import S3Store
from resources.lake.stores import open_store


def test_s3_keeps_the_promises_of_a_store(s3_endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="conformance", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    check_object_store(open_store("s3://conformance/lake", s3_endpoint))


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "PreconditionFailed", "AccessDenied"])
def test_a_refused_write_is_an_error_and_not_silence(code: str) -> None:
    client = boto3.client("s3", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stubber:
        stubber.add_client_error("put_object", code)
        with pytest.raises(LakeError, match=code):
            S3Store(client, "bucket", "lake").replace("key", b"content")
