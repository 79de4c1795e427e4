"""Digests that are remembered: never a wrong one, and no more reading than needed."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from resources.lake import digests
from resources.lake.digests import SourceDigests, file_digest, moved, sha256

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is read, as often as it is."""
    read: list[str] = []
    monkeypatch.setattr(digests, "sha256", lambda path: (read.append(path.name), sha256(path))[1])
    return read


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written long before they are read."""
    monkeypatch.setattr(digests, "SETTLED_S", -10.0)


def test_a_file_is_read_once_and_after_it_was_moved_too(tmp_path: Path, read_files: list[str]) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert file_digest(file) == file_digest(file) == sha256(file)
    file.rename(tmp_path / "b")
    moved(file, tmp_path / "b")
    file_digest(tmp_path / "b")
    assert read_files == ["a"]


@pytest.mark.usefixtures("settled")
def test_a_source_file_is_read_once_by_all_processes(tmp_path: Path, read_files: list[str]) -> None:
    file, cache = tmp_path / "a", tmp_path / "cache"
    file.write_bytes(b"one")
    for _ in range(3):
        assert SourceDigests(cache).of([file]) == [sha256(file)]
    assert read_files == ["a"]


@pytest.mark.usefixtures("settled")
def test_other_content_of_the_same_size_and_time_has_another_digest(tmp_path: Path) -> None:
    """As `cp -p`, `rsync -a` and `tar` leave it."""
    file, other, known = tmp_path / "a", tmp_path / "b", SourceDigests(tmp_path / "cache")
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    os.utime(other, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    before = known.of([file])
    time.sleep(0.02)
    with file.open("r+b") as same_inode:
        same_inode.write(b"two")
    shutil.copystat(other, file)
    assert before != known.of([file]) == [sha256(other)]


def test_a_file_that_has_just_been_written_is_not_trusted_to_stay(tmp_path: Path, read_files: list[str]) -> None:
    file, known = tmp_path / "a", SourceDigests(tmp_path / "cache")
    file.write_bytes(b"one")
    known.of([file])
    known.of([file])
    assert read_files == ["a", "a"]


@pytest.mark.usefixtures("settled")
def test_whether_a_file_is_still_as_it_was_listed(tmp_path: Path, read_files: list[str]) -> None:
    file, known = tmp_path / "a", SourceDigests()
    file.write_bytes(b"one")
    [listed] = known.of([file])
    assert known.still_has(file, listed)
    assert read_files == ["a"]
    file.write_bytes(b"two and more")
    assert not known.still_has(file, listed)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        known.still_has(file, listed)


@pytest.mark.usefixtures("settled")
def test_touching_a_file_changes_no_digest(tmp_path: Path) -> None:
    file, known = tmp_path / "a", SourceDigests(tmp_path / "cache")
    file.write_bytes(b"one")
    before = known.of([file])
    os.utime(file)
    assert known.of([file]) == before


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("what", ["damaged", "a folder"])
def test_a_memory_that_cannot_be_used_costs_time_alone(tmp_path: Path, what: str) -> None:
    file, memory = tmp_path / "a", tmp_path / "cache" / "source_digests.db"
    file.write_bytes(b"one")
    memory.parent.mkdir()
    if what == "damaged":
        memory.write_bytes(b"no database" * 100)
    else:
        memory.mkdir()
    assert SourceDigests(memory.parent).of([file]) == [sha256(file)]
