"""Objects by key, in a folder or in S3: the few operations the lake stands on, with the same promises in both."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlparse

from mlops_assets.ml.errors import DataError, LakeError
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

NOT_AS_EXPECTED = {"NoSuchKey", "404", "PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


class SourceObject(Value):
    """One object as it was when it was listed; `etag` changes whenever its content does."""

    key: str
    etag: str
    size: int


class ObjectStore(Protocol):
    """Keys are relative to the store's root and use forward slashes."""

    def list(self, pattern: str) -> list[SourceObject]:
        """Objects whose key matches the glob `pattern`, sorted by key."""
        ...

    def download(self, item: SourceObject, target: Path) -> None:
        """Copy the listed state of an object into `target`; DataError when it has changed or gone since."""
        ...

    def upload(self, source: Path, key: str) -> None:
        """Store a file; it is visible as a whole or not at all."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Store `content` unless the key exists; whether it was stored. Of several writers one wins."""
        ...

    def read(self, key: str) -> bytes | None:
        """The content, or None when there is no such key."""
        ...

    def replace(self, key: str, content: bytes) -> None:
        """Store `content` in place of whatever is there."""
        ...

    def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        ...


def changed(item: SourceObject) -> DataError:
    """What to say when a listed object is not there any more as it was listed."""
    return DataError(
        f"{item.key} was changed or deleted after it was listed; materialize raw_data again to list what is there now."
    )


class FolderStore:
    """Objects as files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self, pattern: str) -> list[SourceObject]:
        files = sorted(path for path in self.root.glob(pattern) if path.is_file() and not path.name.startswith("."))
        return [self._listed(path) for path in files]

    def _listed(self, path: Path) -> SourceObject:
        state = path.stat()
        etag = hashlib.md5(f"{state.st_size}-{state.st_mtime_ns}".encode(), usedforsecurity=False).hexdigest()
        return SourceObject(key=path.relative_to(self.root).as_posix(), etag=etag, size=state.st_size)

    def local(self, item: SourceObject) -> Path:
        """The file itself, unchanged since it was listed."""
        path = self.root / item.key
        try:
            if self._listed(path) == item:
                return path
        except FileNotFoundError:
            pass
        raise changed(item)

    def download(self, item: SourceObject, target: Path) -> None:
        shutil.copyfile(self.local(item), target)

    def upload(self, source: Path, key: str) -> None:
        with self._placing(key) as draft:
            shutil.copyfile(source, draft)

    def create(self, key: str, content: bytes) -> bool:
        draft = self._draft(key)
        try:
            _write_durably(draft, content)
            os.link(draft, self.root / key)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def read(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def replace(self, key: str, content: bytes) -> None:
        draft = self._draft(key)
        try:
            _write_durably(draft, content)
            draft.replace(self.root / key)
        finally:
            draft.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def _draft(self, key: str) -> Path:
        place = self.root / key
        place.parent.mkdir(parents=True, exist_ok=True)
        return place.parent / f".{place.name}.{uuid.uuid4().hex}"

    def _placing(self, key: str) -> _Placing:
        return _Placing(self._draft(key), self.root / key)


class _Placing:
    """A draft file that takes its place when the block ends well, and vanishes when it does not."""

    def __init__(self, draft: Path, place: Path) -> None:
        self.draft, self.place = draft, place

    def __enter__(self) -> Path:
        return self.draft

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.draft.replace(self.place)
        else:
            self.draft.unlink(missing_ok=True)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


class S3Store:
    """Objects below a prefix of an S3 bucket. `client` is a boto3 S3 client."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.client, self.bucket = client, bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def list(self, pattern: str) -> list[SourceObject]:
        fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        with self._reached():
            found = [item for item in self._pages(self.prefix + fixed) if _matches(item.key, pattern)]
        return sorted(found, key=lambda item: item.key)

    def _pages(self, prefix: str) -> Iterator[SourceObject]:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                key = entry["Key"].removeprefix(self.prefix)
                yield SourceObject(key=key, etag=entry["ETag"].strip('"'), size=entry["Size"])

    def download(self, item: SourceObject, target: Path) -> None:
        with self._reached() as refused, target.open("wb") as file:
            body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + item.key, IfMatch=item.etag)["Body"]
            for chunk in body.iter_chunks(1 << 20):
                file.write(chunk)
        if refused:
            raise changed(item)

    def upload(self, source: Path, key: str) -> None:
        with self._reached():
            self.client.upload_file(str(source), self.bucket, self.prefix + key)

    def create(self, key: str, content: bytes) -> bool:
        with self._reached() as refused:
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content, IfNoneMatch="*")
        return not refused

    def read(self, key: str) -> bytes | None:
        with self._reached():
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        return None

    def replace(self, key: str, content: bytes) -> None:
        with self._reached():
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content)

    def delete(self, key: str) -> None:
        with self._reached():
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    @contextmanager
    def _reached(self) -> Generator[list[str]]:
        """Collects the code when S3 says that a key is missing or not as expected; every other error is told."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        refused: list[str] = []
        try:
            yield refused
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in NOT_AS_EXPECTED:
                raise self._told(error) from error
            refused.append(code)
        except (BotoCoreError, Boto3Error) as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> LakeError:
        return LakeError(
            f"The lake s3://{self.bucket}/{self.prefix.rstrip('/')} cannot be reached or refuses this: {error}. Check "
            "LAKE_URI, the network and the credentials; nothing was published."
        )


def _matches(key: str, pattern: str) -> bool:
    """As in a folder, a wildcard stays within one part of the key."""
    parts, patterns = key.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def open_store(uri: str, endpoint_url: str | None) -> ObjectStore:
    """The store at `uri`: a folder, or s3://bucket/prefix with credentials from the environment (IRSA on EKS)."""
    if not uri.startswith("s3://"):
        return FolderStore(Path(uri.removeprefix("file://")).absolute())
    from dagster_aws.s3 import S3Resource

    place = urlparse(uri)
    return S3Store(S3Resource(endpoint_url=endpoint_url).get_client(), place.netloc, place.path)
