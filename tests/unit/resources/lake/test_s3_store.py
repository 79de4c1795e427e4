"""The store in S3, by a real S3 API on this machine, and by one whose network spoils requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.stub import Stubber

from mlops_assets.ml.errors import DataError, LakeError
from mlops_assets.testing import check_object_store
from resources.lake import s3_store
from resources.lake.s3_store import S3Store
from resources.lake.stores import open_store
from tests.fault_proxy import Fault, FaultProxy, fault_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resources.lake.object_store import ObjectStore


def new_bucket(endpoint: str) -> str:
    client = boto3.client("s3", endpoint_url=endpoint, region_name="eu-central-1")
    name = f"store-{time.time_ns()}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as made:
        yield made


@pytest.fixture
def store(s3_endpoint: str, proxy: FaultProxy) -> ObjectStore:
    return open_store(f"s3://{new_bucket(s3_endpoint)}/lake", proxy.url)


def test_s3_keeps_the_promises_of_a_store(s3_endpoint: str) -> None:
    check_object_store(open_store(f"s3://{new_bucket(s3_endpoint)}/lake", s3_endpoint))


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "PreconditionFailed", "AccessDenied"])
def test_a_refused_write_is_an_error_and_not_silence(code: str) -> None:
    client = boto3.client("s3", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stubber:
        for _ in range(5):  # a conflict is tried again
            stubber.add_client_error("put_object", code)
        with pytest.raises(LakeError, match=code):
            S3Store(client, "bucket", "lake").replace("key", b"content")


@pytest.mark.parametrize("fault", ["lose the request", "lose the answer", "409", "503"])
def test_what_was_created_is_known_as_created_whatever_the_network_does(
    store: ObjectStore, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.spoil("PUT", "/key", fault, times=2)
    assert store.create("key", b"mine")
    assert store.read("key") == b"mine"
    proxy.spoil("PUT", "/key", fault)
    assert not store.create("key", b"another's")
    assert store.read("key") == b"mine"
    assert proxy.rules == [], "every fault was met"


def test_an_equal_content_that_was_there_before_is_not_taken_for_ones_own(store: ObjectStore) -> None:
    assert store.create("key", b"equal")
    assert not store.create("key", b"equal")


def test_a_conflict_that_does_not_end_is_an_error(store: ObjectStore, proxy: FaultProxy) -> None:
    proxy.spoil("PUT", "/key", "409", times=5)
    with pytest.raises(LakeError, match="ConditionalRequestConflict"):
        store.create("key", b"mine")
    assert store.read("key") is None


@pytest.mark.parametrize("fault", ["lose the request", "lose the answer", "409", "503"])
def test_what_is_replaced_uploaded_or_deleted_is_so_afterwards(
    store: ObjectStore, proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    proxy.spoil("PUT", "/key", fault)
    store.replace("key", b"one")
    assert store.read("key") == b"one"
    (tmp_path / "file").write_bytes(b"two")
    proxy.spoil("PUT", "/key", fault)
    store.upload(tmp_path / "file", "key")
    assert store.read("key") == b"two"
    proxy.spoil("DELETE", "/key", fault)
    store.delete("key")
    assert store.read("key") is None
    assert proxy.rules == []


def test_what_is_larger_than_one_request_takes_goes_in_parts(store: S3Store) -> None:
    """As a checkpoint of some GB does: S3 refuses one request of more than 5 GB."""
    content = bytes(range(256)) * (80 << 10)  # 20 MiB
    store.replace("checkpoint", content)
    etag = store.client.head_object(Bucket=store.bucket, Key=store.prefix + "checkpoint")["ETag"]
    assert etag.endswith('-3"')
    assert store.read("checkpoint") == content


def test_a_body_that_breaks_off_is_read_again(store: ObjectStore, proxy: FaultProxy, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    store.replace("big.bin", content)
    [item] = store.list("*.bin")
    proxy.spoil("GET", "big.bin", "break the body", times=3)
    store.download(item, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    proxy.spoil("GET", "big.bin", "break the body", times=3)
    assert store.read("big.bin") == content
    proxy.spoil("GET", "list-type=2", "break the body")
    assert store.sizes("*.bin") == {"big.bin": len(content)}
    assert proxy.rules == []


def test_a_body_that_always_breaks_off_is_an_error(store: ObjectStore, proxy: FaultProxy, tmp_path: Path) -> None:
    store.replace("big.bin", b"content")
    [item] = store.list("*.bin")
    proxy.spoil("GET", "big.bin", "break the body", times=5)
    with pytest.raises(LakeError, match=r"big\.bin cannot be reached or refuses this: the answer broke off"):
        store.download(item, tmp_path / "copy")


def test_an_object_that_changes_between_two_attempts_is_not_mixed(
    store: ObjectStore, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace("big.bin", b"a" * 1_000)
    [item] = store.list("*.bin")
    monkeypatch.setattr(s3_store, "_pause", lambda attempt: attempt and store.replace("big.bin", b"b" * 1_000))
    proxy.spoil("GET", "big.bin", "break the body")
    with pytest.raises(DataError, match="was changed or deleted after it was listed"):
        store.download(item, tmp_path / "copy")


def test_a_large_object_is_fetched_in_parts_of_one_state(
    store: ObjectStore, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "PART_BYTES", 1_000)
    content = bytes(range(256)) * 21
    store.replace("big.bin", content)
    [item] = store.list("*.bin")
    proxy.spoil("GET", "big.bin", "break the body", times=2)
    store.download(item, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert len([path for method, path in proxy.seen if method == "GET" and "big.bin" in path]) == 6 + 2
    store.replace("big.bin", content[::-1])
    with pytest.raises(DataError, match="was changed or deleted"):
        store.download(item, tmp_path / "copy")


def test_an_archived_object_is_told_with_its_address(store: ObjectStore, proxy: FaultProxy, tmp_path: Path) -> None:
    store.replace("old/a.csv", b"content")
    [item] = store.list("old/*")
    proxy.spoil("GET", r"old/a\.csv", "403")
    told = r"^s3://store-\d+/lake/old/a\.csv is archived and cannot be read; restore it there first"
    with pytest.raises(DataError, match=told):
        store.download(item, tmp_path / "copy")


def test_an_error_names_the_address_and_both_places_it_may_come_from(s3_endpoint: str) -> None:
    told = r"^s3://nobodys-bucket/a cannot be reached or refuses this: .*NoSuchBucket.*\(LAKE_URI, source\.uri\)"
    with pytest.raises(LakeError, match=told):
        open_store("s3://nobodys-bucket", s3_endpoint).list("a/*.csv")
