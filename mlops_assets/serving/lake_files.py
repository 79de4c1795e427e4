"""What servers read and write of the lake: a folder, or a prefix in S3. A file is there as a whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit


class LakeFiles(Protocol):
    """Keeps files by key; one that is put twice is there once."""

    def put(self, key: str, content: bytes) -> None:
        """Store a file.

        Raises:
            Exception: it is not known to be stored; try again.
        """
        ...

    def get(self, key: str) -> bytes | None:
        """What a file holds, None where there is none.

        Raises:
            Exception: it cannot be read now.
        """
        ...


class LakeFolder:
    """Files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, content: bytes) -> None:
        """Store a file that outlives a crash of the machine."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{uuid.uuid4().hex}.draft")
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def get(self, key: str) -> bytes | None:
        """Read a file."""
        try:
            return (self.folder / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


class LakePrefix:
    """Objects below a prefix of a bucket."""

    def __init__(self, uri: str) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(uri)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        # Who asks tries again by itself, and must end soon when the server stops
        config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
        self.client: Any = boto3.client("s3", config=config)

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=content)

    def get(self, key: str) -> bytes | None:
        """Read an object."""
        from botocore.exceptions import ClientError

        try:
            return self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
        except ClientError as error:
            # To who may not list the bucket, S3 says of what is not there that it is forbidden
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404", "AccessDenied", "403"):
                return None
            raise

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}".lstrip("/")


def open_lake_files(uri: str) -> LakeFiles:
    """The store at s3://bucket/prefix or at a folder."""
    return LakePrefix(uri) if uri.startswith("s3://") else LakeFolder(Path(uri))
