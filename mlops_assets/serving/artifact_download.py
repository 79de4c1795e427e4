"""Brings an artifact from S3 into the server's folder and declares it there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlparse

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.inference.artifact import MAX_BYTES
from mlops_assets.serving.model_repository import DECLARATION, Declaration, Served

if TYPE_CHECKING:
    from pathlib import Path


def fetch(uri: str, models: Path, model: str, version: str, sha256: str) -> None:
    """Download the files an artifact may have, and no others, from s3://bucket/place.

    The digest is compared when the server loads them.

    Raises:
        ArtifactError: a file is missing or too large.
    """
    import boto3
    from botocore.exceptions import ClientError

    place = urlparse(uri)
    folder = models / model / f"{version}-{sha256[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    client = boto3.client("s3")
    for name, limit in MAX_BYTES.items():
        key = f"{place.path.strip('/')}/{name}"
        try:
            if client.head_object(Bucket=place.netloc, Key=key)["ContentLength"] > limit:
                raise ArtifactError(f"{uri}/{name} is larger than {limit >> 20} MiB; refused.")
            client.download_file(place.netloc, key, str(folder / name))
        except ClientError as error:
            raise ArtifactError(f"{uri}/{name} cannot be fetched: {error}") from error
    served = Served(folder=folder.name, sha256=sha256, version=version)
    (models / model / DECLARATION).write_text(Declaration(champion=served).model_dump_json())
