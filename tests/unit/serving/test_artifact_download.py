"""A predictor pod's artifact, from a real S3 API into the folder that its server reads."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import boto3
import pytest

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.inference.artifact import MAX_BYTES
from mlops_assets.serving.artifact_download import download_artifact
from mlops_assets.serving.declaration import EXIT_REFUSED, Declaration, ServedVersion
from mlops_assets.serving.model_repository import Repository
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket that the environment's client reaches."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    name = f"artifacts-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


@pytest.fixture
def version(bucket: str, tmp_path: Path) -> ServedVersion:
    """A version whose artifact lies in the bucket, beside what is no part of it."""
    signature = write_artifact(tmp_path / "artifact")
    for name in ("model.onnx", "model.json"):
        boto3.client("s3").upload_file(str(tmp_path / "artifact" / name), bucket, f"served/m/{name}")
    boto3.client("s3").put_object(Bucket=bucket, Key="served/m/model.pkl", Body=b"code")
    return ServedVersion.of(1, signature.sha256)


def test_an_artifact_is_downloaded_and_can_be_served(bucket: str, version: ServedVersion, tmp_path: Path) -> None:
    models = tmp_path / "models"
    download_artifact(f"s3://{bucket}/served/m", models, "m", version)
    assert Declaration.read(models / "m") == Declaration(champion=version)
    assert sorted(path.name for path in (models / "m" / version.folder).iterdir()) == ["model.json", "model.onnx"]
    repository = Repository(models)
    repository.load("m")
    assert repository.models["m"].served == version


def test_a_missing_file_is_told_with_its_address(bucket: str, version: ServedVersion, tmp_path: Path) -> None:
    boto3.client("s3").delete_object(Bucket=bucket, Key="served/m/model.json")
    with pytest.raises(ArtifactError, match=f"s3://{bucket}/served/m/model.json: it cannot be fetched: .*Not Found"):
        download_artifact(f"s3://{bucket}/served/m", tmp_path, "m", version)
    assert not (tmp_path / "m" / Declaration.FILE).exists()


def test_a_file_that_is_too_large_is_not_downloaded(
    bucket: str, version: ServedVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MAX_BYTES, "model.onnx", 10)
    with pytest.raises(ArtifactError, match=r"model.onnx: it is larger than 0 MiB; refused"):
        download_artifact(f"s3://{bucket}/served/m", tmp_path, "m", version)
    assert list((tmp_path / "m" / version.folder).iterdir()) == []


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, 1, "Could not connect"),
        ({"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": ""}, 1, "credentials"),
        ({}, EXIT_REFUSED, "m is not served: "),
    ],
    ids=["S3 is away", "the role is not there yet", "another digest"],
)
def test_a_predictor_tells_what_another_start_may_bring_by_its_exit_code(
    bucket: str, version: ServedVersion, tmp_path: Path, change: dict[str, str], code: int, told: str
) -> None:
    command = [sys.executable, "-m", "mlops_assets.serving.model_server", "--models", str(tmp_path / "models")]
    command += ["--port", "8099", "--fetch", f"s3://{bucket}/served/m", "--model", "m", "--model-version", "1"]
    without = {name: value for name, value in os.environ.items() if change.get(name) != ""}
    variables = without | {name: value for name, value in change.items() if value} | {"AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run([*command, "--sha256", "0" * 64], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert told in done.stderr
