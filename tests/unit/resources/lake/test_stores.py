"""Which store serves which kind of address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import SpecError
from resources.lake.folder_store import FolderStore
from resources.lake.s3_store import S3Store
from resources.lake.stores import STORES, open_store, scheme_of, split_glob

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [("s3://b/a/*.csv", "s3"), ("file:///a/*.csv", "file"), ("/a/*.csv", ""), ("a/*.csv", ""), ("gs://b", "gs")],
)
def test_the_scheme_is_what_stands_before_the_slashes(uri: str, scheme: str) -> None:
    assert scheme_of(uri) == scheme


def test_a_path_and_a_file_address_are_the_same_folder(tmp_path: Path) -> None:
    plain, address = open_store(str(tmp_path), None), open_store(f"file://{tmp_path}", None)
    assert isinstance(plain, FolderStore)
    assert isinstance(address, FolderStore)
    assert plain.root == address.root == tmp_path


def test_a_bucket_has_its_prefix_and_its_endpoint(s3_endpoint: str) -> None:
    store = open_store("s3://bucket/deep/prefix/", s3_endpoint)
    assert isinstance(store, S3Store)
    assert (store.bucket, store.prefix) == ("bucket", "deep/prefix/")
    assert store.client.meta.endpoint_url == s3_endpoint


def test_a_scheme_nobody_serves_opens_nothing() -> None:
    assert STORES.keys() == {"", "file", "s3"}
    with pytest.raises(SpecError, match=r"gs://bucket: gs:// is not supported; use file://, s3:// or a folder"):
        open_store("gs://bucket", None)


@pytest.mark.parametrize("uri", ["s3://", "s3:///a/*.csv"])
def test_an_address_without_a_bucket_opens_nothing(uri: str) -> None:
    with pytest.raises(SpecError, match=r"names no bucket; write s3://bucket/prefix"):
        open_store(split_glob(uri)[0], None)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://bucket/a/b/*.csv", ("s3://bucket/a/b", "*.csv")),
        ("s3://bucket/a.csv", ("s3://bucket", "a.csv")),
        ("s3://*.csv", ("s3://", "*.csv")),
        ("/data/2025-*/x.csv", ("/data", "2025-*/x.csv")),
        ("flights/*.parquet", ("flights", "*.parquet")),
        ("/data/one.csv", ("/data", "one.csv")),
        ("/one.csv", ("/", "one.csv")),
        ("file:///one.csv", ("file:///", "one.csv")),
        ("*.csv", ("", "*.csv")),
        ("/data/**/[ab]?.csv", ("/data", "**/[ab]?.csv")),
    ],
)
def test_where_a_pattern_begins(uri: str, parts: tuple[str, str]) -> None:
    assert split_glob(uri) == parts
