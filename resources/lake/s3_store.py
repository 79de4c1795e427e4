"""Objects in S3, or in what speaks its protocol."""

from __future__ import annotations

import io
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlparse

from mlops_assets.ml.errors import DataError, LakeError, SpecError
from resources.lake.object_store import Page, SourceObject, StoredObject, changed, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

Result = TypeVar("Result")
MISSING = {"NoSuchKey", "404"}
EXISTS = {"PreconditionFailed", "412"}
CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409", "NoSuchUpload"}
ARCHIVED = {"InvalidObjectState"}
BUSY = {"InternalError", "SlowDown", "ServiceUnavailable"}
BATCH = 1000  # keys that S3 takes in one request to delete
PAGE = 1000  # and that it lists in one
ATTEMPTS = 5
PART_BYTES = 64 << 20
PARTS_AT_ONCE = 4


class S3Store:
    """The `ObjectStore` below a prefix of an S3 bucket. `client` is a boto3 S3 client.

    boto3 repeats requests that were not answered, or with 5xx. What it leaves is done here: conflicts, answers whose
    body breaks off, and a conditional write that finds its own object, because only its first answer was lost.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client, self.bucket = client, bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @classmethod
    def open(cls, uri: str, endpoint_url: str | None, _: Path | None) -> S3Store:
        """The store at s3://bucket/prefix, with credentials from the environment (IRSA on EKS)."""
        import boto3.session
        from botocore.config import Config

        retries: Any = {"mode": "standard", "max_attempts": 6}
        config = Config(retries=retries, connect_timeout=10, read_timeout=60, max_pool_connections=32)
        client = boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)
        parts = urlparse(uri)
        if not parts.netloc:
            raise SpecError(f"{uri} names no bucket", remedy="write s3://bucket/prefix")
        return cls(client, parts.netloc, parts.path)

    def list(self, pattern: str) -> list[SourceObject]:
        fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]

        def listed() -> list[SourceObject]:
            found = (self._listed(entry) for entry in self._entries(self.prefix + fixed))
            return [item for item in found if matches(item.key, pattern)]

        return sorted(self._repeated(fixed, listed), key=lambda item: item.key)

    def pages(self, pattern: str, after: str = "") -> Iterator[Page]:
        fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        start = {"StartAfter": self.prefix + after} if after else {}
        listing = {"Bucket": self.bucket, "Prefix": self.prefix + fixed, "PaginationConfig": {"PageSize": PAGE}}
        found = iter(self.client.get_paginator("list_objects_v2").paginate(**listing, **start))
        while page := self._once(fixed, lambda: next(found, None)):
            items = [self._listed(entry) for entry in page.get("Contents", [])]
            if items:
                yield Page([item for item in items if matches(item.key, pattern)], items[-1].key)

    def sizes(self, pattern: str) -> dict[str, int]:
        return {item.key: item.size for item in self.list(pattern)}

    def stored(self, folder: str = "") -> Iterator[StoredObject]:
        prefix = f"{self.prefix}{folder}/" if folder else self.prefix
        entries = self._entries(prefix)
        # What was given once is not given again, so a page that cannot be had ends the listing
        while entry := self._once(folder, lambda: next(entries, None)):
            yield StoredObject(entry["Key"].removeprefix(self.prefix), entry["Size"], entry["LastModified"])

    def _entries(self, prefix: str) -> Iterator[dict[str, Any]]:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            yield from page.get("Contents", [])

    def _listed(self, entry: dict[str, Any]) -> SourceObject:
        return SourceObject(
            key=entry["Key"].removeprefix(self.prefix), etag=entry["ETag"].strip('"'), size=entry["Size"]
        )

    def local_folder(self, prefix: str) -> None:
        return None

    def local_path(self, item: SourceObject) -> None:
        return None

    def download(self, item: SourceObject, target: Path) -> None:
        with target.open("wb") as file:
            file.truncate(item.size)

        def part(start: int) -> None:
            self._repeated(item.key, lambda: self._copy_part(item, target, start))

        try:
            if item.size <= PART_BYTES:
                part(0)
                return
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                list(pool.map(part, range(0, item.size, PART_BYTES)))
        except (_MissingError, _ExistsError) as error:
            raise changed(item) from error

    def _copy_part(self, item: SourceObject, target: Path, start: int) -> None:
        length = min(PART_BYTES, item.size - start)
        # An empty object has no range that could be asked for
        part = {"Range": f"bytes={start}-{start + length - 1}"} if length < item.size else {}
        answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + item.key, IfMatch=item.etag, **part)
        with target.open("r+b") as file:
            file.seek(start)
            written = sum(file.write(chunk) for chunk in _body(answer))
        if written != length:
            raise _BrokenBodyError(f"{written} bytes of {length}")

    def upload(self, source: Path, key: str) -> None:
        def send() -> None:
            with source.open("rb") as file:
                # In parts where it is large, each of them repeated by boto3
                self.client.upload_fileobj(file, self.bucket, self.prefix + key)

        self._repeated(key, send)

    def create(self, key: str, content: bytes) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        is_unclear = False
        for attempt in range(ATTEMPTS):
            _pause(attempt)
            try:
                self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content, IfNoneMatch="*")
            except ClientError as error:
                is_unclear |= error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
                code = error.response["Error"]["Code"]
                if code in EXISTS:
                    found = self.read(key) if is_unclear else b""
                    if found is not None:
                        return is_unclear and found == content
                elif code not in CONFLICT or attempt == ATTEMPTS - 1:
                    raise self._refused(key, error) from error
            except BotoCoreError as error:
                raise self._refused(key, error) from error
            else:
                return True
        raise LakeError(f"s3://{self.bucket}/{self.prefix}{key} comes and goes", remedy="materialize again")

    def read(self, key: str) -> bytes | None:
        def content() -> bytes:
            return b"".join(_body(self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)))

        try:
            return self._repeated(key, content)
        except _MissingError:
            return None

    def replace(self, key: str, content: bytes) -> None:
        def send() -> None:
            # In parts where it is large: one request takes no more than 5 GB, which checkpoints may have
            self.client.upload_fileobj(io.BytesIO(content), self.bucket, self.prefix + key)

        self._repeated(key, send)

    def delete(self, key: str) -> None:
        self._repeated(key, lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key))

    def delete_many(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), BATCH):
            left = list(keys[start : start + BATCH])
            for attempt in range(ATTEMPTS):
                _pause(attempt)
                left = self._refused_deletes(left, is_last=attempt == ATTEMPTS - 1)
                if not left:
                    break

    def _refused_deletes(self, keys: list[str], *, is_last: bool) -> list[str]:
        """Delete these, and return those that S3 was too busy for."""
        from botocore.exceptions import ClientError

        objects = {"Objects": [{"Key": self.prefix + key} for key in keys], "Quiet": True}
        answer = self._repeated(keys[0], lambda: self.client.delete_objects(Bucket=self.bucket, Delete=objects))
        refused = {error["Key"].removeprefix(self.prefix): error for error in answer.get("Errors", [])}
        for key, error in refused.items():
            if is_last or error.get("Code") not in BUSY:
                raise self._refused(key, ClientError({"Error": error}, "DeleteObjects"))
        return [*refused]

    def _repeated(self, key: str, request: Callable[[], Result]) -> Result:
        """What the request gives, which may be sent again: after a conflict, or a body that broke off."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(ATTEMPTS):
            _pause(attempt)
            try:
                return request()
            except (_BrokenBodyError, ClientError) as error:
                code = error.response["Error"]["Code"] if isinstance(error, ClientError) else "broken body"
                if code not in CONFLICT | {"broken body"} or attempt == ATTEMPTS - 1:
                    raise self._refused(key, error) from error
            except (BotoCoreError, Boto3Error) as error:
                raise self._refused(key, error) from error
        raise AssertionError("the last attempt returns or raises")

    def _once(self, key: str, request: Callable[[], Result]) -> Result:
        """What a request gives that boto3 alone may send again."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return request()
        except (BotoCoreError, ClientError) as error:
            raise self._refused(key, error) from error

    def _refused(self, key: str, error: Exception) -> LakeError | DataError:
        code = getattr(error, "response", {}).get("Error", {}).get("Code")
        where = f"s3://{self.bucket}/{self.prefix}{key}".rstrip("/")
        if code in ARCHIVED:
            remedy = "restore it there first (aws s3api restore-object), or keep it out of source.uri"
            return DataError(f"{where} is archived and cannot be read", remedy=remedy)
        kind = _MissingError if code in MISSING else _ExistsError if code in EXISTS else LakeError
        what = f"{where} cannot be reached or refuses this: {error}".rstrip(".")
        remedy = "check the address (LAKE_URI, source.uri), the network and the credentials; nothing was published"
        return kind(what, remedy=remedy)


def _body(answer: Any) -> Iterator[bytes]:
    """The content of an answer in pieces of 1 MiB."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    try:
        yield from answer["Body"].iter_chunks(1 << 20)
    except (IncompleteReadError, HTTPClientError, FlexibleChecksumError) as error:
        raise _BrokenBodyError(f"the answer broke off: {error}") from error


def _pause(attempt: int) -> None:
    """Wait before an attempt that is not the first one: 0.1 s, and twice as long each time."""
    if attempt:
        time.sleep(0.1 * 2 ** (attempt - 1))


class _MissingError(LakeError):
    """S3 says that there is no such key."""


class _ExistsError(LakeError):
    """S3 says that a key is there, or is another object, although it should not be."""


class _BrokenBodyError(Exception):
    """The connection ended in the middle of an answer."""
