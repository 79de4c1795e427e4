"""Brings an artifact from S3 into the server's folder and declares it there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlparse

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.inference.artifact import MAX_BYTES
from mlops_assets.serving.declaration import Declaration, ServedVersion

if TYPE_CHECKING:
    from pathlib import Path

NOT_THERE = ("404", "NoSuchKey", "NoSuchBucket")


def download_artifact(
    uri: str, models: Path, model: str, version: ServedVersion, *, is_candidate: bool = False
) -> None:
    """Download the files an artifact may have, and no others, from `uri`, s3://bucket/prefix.

    The digest is compared when the server loads them.

    Raises:
        ArtifactError: a file is missing or too large.
        botocore.exceptions.ClientError, BotoCoreError: S3 or this pod's role cannot be had now.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    bucket, prefix = urlparse(uri).netloc, urlparse(uri).path.strip("/")
    folder = models / model / version.folder
    folder.mkdir(parents=True, exist_ok=True)
    # A new pod's role or network may come seconds after its process
    client = boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 8}))
    for name, limit in MAX_BYTES.items():
        key = f"{prefix}/{name}"
        try:
            if client.head_object(Bucket=bucket, Key=key)["ContentLength"] > limit:
                raise ArtifactError(f"it is larger than {limit >> 20} MiB; refused", where=f"{uri}/{name}")
            client.download_file(bucket, key, str(folder / name))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in NOT_THERE:
                raise
            raise ArtifactError(f"it cannot be fetched: {error}", where=f"{uri}/{name}") from error
    declared = Declaration(candidate=version) if is_candidate else Declaration(champion=version)
    declared.write(models / model)
