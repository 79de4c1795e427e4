"""Objects in S3, or in what speaks its protocol."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from mlops_assets.ml.errors import LakeError
from resources.lake.object_store import SourceObject, changed, matches

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

NOT_AS_EXPECTED = {"NoSuchKey", "404", "PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


class S3Store:
    """The `ObjectStore` below a prefix of an S3 bucket. `client` is a boto3 S3 client."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client, self.bucket = client, bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @classmethod
    def open(cls, uri: str, endpoint_url: str | None) -> S3Store:
        """The store at s3://bucket/prefix, with credentials from the environment (IRSA on EKS)."""
        from dagster_aws.s3 import S3Resource

        parts = urlparse(uri)
        return cls(S3Resource(endpoint_url=endpoint_url).get_client(), parts.netloc, parts.path)

    def list(self, pattern: str) -> list[SourceObject]:
        fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        with self._errors():
            found = [item for item in self._pages(self.prefix + fixed) if matches(item.key, pattern)]
        return sorted(found, key=lambda item: item.key)

    def _pages(self, prefix: str) -> Iterator[SourceObject]:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                key = entry["Key"].removeprefix(self.prefix)
                yield SourceObject(key=key, etag=entry["ETag"].strip('"'), size=entry["Size"])

    def local_folder(self, prefix: str) -> None:
        return None

    def local_path(self, item: SourceObject) -> None:
        return None

    def download(self, item: SourceObject, target: Path) -> None:
        try:
            with self._errors():
                answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + item.key, IfMatch=item.etag)
                with target.open("wb") as file:
                    for chunk in answer["Body"].iter_chunks(1 << 20):
                        file.write(chunk)
        except _NotAsExpectedError:
            raise changed(item) from None

    def upload(self, source: Path, key: str) -> None:
        with self._errors():
            self.client.upload_file(str(source), self.bucket, self.prefix + key)

    def create(self, key: str, content: bytes) -> bool:
        try:
            with self._errors():
                self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content, IfNoneMatch="*")
        except _NotAsExpectedError:
            return False
        return True

    def read(self, key: str) -> bytes | None:
        try:
            with self._errors():
                return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        except _NotAsExpectedError:
            return None

    def replace(self, key: str, content: bytes) -> None:
        with self._errors():
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content)

    def delete(self, key: str) -> None:
        with self._errors():
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn what boto3 raises into a LakeError, told apart where S3 answers about the key itself."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            kind = _NotAsExpectedError if error.response["Error"]["Code"] in NOT_AS_EXPECTED else LakeError
            raise self._refused(error, kind) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._refused(error, LakeError) from error

    def _refused(self, error: Exception, kind: type[LakeError]) -> LakeError:
        what = f"The lake s3://{self.bucket}/{self.prefix.rstrip('/')} cannot be reached or refuses this: {error}"
        return kind(what, remedy="check LAKE_URI, the network and the credentials; nothing was published")


class _NotAsExpectedError(LakeError):
    """S3 says that a key is missing, or there although it should not be."""
