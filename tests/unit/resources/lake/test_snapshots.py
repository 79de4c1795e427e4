"""Snapshots: what names them is checked, readers change nothing, and each file is read once."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DataError
from resources.lake import digests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resources.lake.lake import Lake

KEY = "m/stage/v1/manifest.json"
SHA256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"  # of b"content"


def publish(lake: Lake, content: bytes = b"content", version: str = "v1") -> str:
    """The folder of a snapshot that was published."""
    with lake.publishing("m/stage", version) as folder:
        (folder / "data.bin").write_bytes(content)
    manifest = lake.find("m/stage", version)
    assert manifest is not None
    return manifest.folder


def of_another_machine(lake: Lake) -> Lake:
    return lake.model_copy(update={"cache": f"{lake.cache}-of-another-machine"})


def write_manifest(lake: Lake, folder: str, name: str = "data.bin") -> None:
    file = {"name": name, "size": 7, "sha256": SHA256}
    lake.store.replace(KEY, json.dumps({"version": "v1", "folder": folder, "files": [file]}).encode())


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file whose digest is computed, as often as it is."""
    read: list[str] = []
    really = digests.sha256

    def counted(path: Path) -> str:
        read.append(str(path))
        return really(path)

    monkeypatch.setattr(digests, "sha256", counted)
    return read


PLANTED = ["../../planted", "/tmp/planted", "m/stage/v1/x", "m/other/v1/" + "a" * 32, "m/stage/v1/../v1/" + "a" * 32]


@pytest.mark.parametrize("folder", [*PLANTED, "m/stage/v2/" + "a" * 32, "."])
def test_a_manifest_leads_to_no_folder_but_its_own(lake: Lake, tmp_path: Path, folder: str) -> None:
    write_manifest(lake, folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=rf"no complete snapshot m/stage/v1 in .*: {KEY} "):
        lake.fetch("m/stage", "v1")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../data.bin", "/tmp/data.bin", "a/data.bin", "..", ".", "", ".hidden", "a\\b", "a\0b"]
)
def test_a_manifest_names_plain_files_alone(lake: Lake, name: str) -> None:
    folder = publish(lake)
    write_manifest(lake, folder, name)
    with pytest.raises(DataError, match=f"{KEY} is damaged"):
        lake.fetch("m/stage", "v1")


@pytest.mark.parametrize("content", [b"", b'{"version": "v1"', b"[]", b"\xff", b"null"])
def test_a_damaged_manifest_is_told_and_set_aside_by_the_next_writer(lake: Lake, content: bytes) -> None:
    lake.store.replace(KEY, content)
    with pytest.raises(DataError, match=f"{KEY} is damaged"):
        lake.fetch("m/stage", "v1")
    publish(lake)
    assert (lake.fetch("m/stage", "v1") / "data.bin").read_bytes() == b"content"
    [aside] = lake.store.sizes("m/stage/v1/damaged-*.json")
    assert lake.store.read(aside) == content


@pytest.mark.parametrize("prefix", ["../m", "/m", "m/../x"])
def test_a_handle_leads_nowhere_out_of_the_lake(lake: Lake, prefix: str) -> None:
    with pytest.raises(DataError):
        lake.fetch(prefix, "v1")


@pytest.mark.parametrize("read", ["find", "fetch"])
def test_a_reader_changes_nothing(lake: Lake, read: str) -> None:
    folder = publish(lake)
    lake.store.delete(f"{folder}/data.bin")
    before = lake.store.sizes("m/**")
    try:
        getattr(lake, read)("m/stage", "v1")
    except DataError as error:
        assert f"{folder}/data.bin is missing" in str(error)
    assert lake.store.sizes("m/**") == before


def test_a_snapshot_that_is_whole_again_counts_again(lake: Lake) -> None:
    """As on a disk that was away for a moment."""
    folder = publish(lake)
    lake.store.delete(f"{folder}/data.bin")
    assert lake.find("m/stage", "v1") is None
    lake.store.replace(f"{folder}/data.bin", b"content")
    assert lake.find("m/stage", "v1") is not None


def test_each_file_is_read_once_by_a_process(lake: Lake, read_files: list[str]) -> None:
    publish(lake)
    for _ in range(3):
        lake.find("m/stage", "v1")
        lake.fetch("m/stage", "v1")
    assert len(read_files) == 1
    of_another_machine(lake).fetch("m/stage", "v1")
    of_another_machine(lake).fetch("m/stage", "v1")
    assert len(read_files) == (1 if lake.store.local_folder("m") else 2)


HARMS: dict[str, Callable[[Path], Any]] = {
    "changed": lambda folder: (folder / "data.bin").write_bytes(b"evil it"),
    "cut": lambda folder: (folder / "data.bin").write_bytes(b"con"),
    "removed": lambda folder: (folder / "data.bin").unlink(),
    "added to": lambda folder: (folder / "more.bin").write_bytes(b"more"),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("lake", ["s3"], indirect=True)
@pytest.mark.parametrize("harm", HARMS)
def test_what_is_kept_of_a_remote_snapshot_is_compared_before_it_is_used(lake: Lake, harm: str) -> None:
    publish(lake)
    other = of_another_machine(lake)
    HARMS[harm](other.fetch("m/stage", "v1"))
    fetched = other.fetch("m/stage", "v1")
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == {"data.bin": b"content"}


def test_a_name_that_a_snapshot_cannot_have_is_told_by_its_writer(lake: Lake) -> None:
    with pytest.raises(DataError, match=r"'\.hidden' cannot be part of a snapshot"), lake.publishing("m/s", "v1") as to:
        (to / ".hidden").write_text("x")
    with pytest.raises(DataError, match="cannot be part of a snapshot"), lake.publishing("m/s", "a b") as to:
        (to / "a").write_text("x")
