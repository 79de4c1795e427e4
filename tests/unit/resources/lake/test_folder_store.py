"""The store below a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import DataError, LakeError, SpecError
from mlops_assets.testing import check_object_store
from resources.lake.folder_store import FolderStore

if TYPE_CHECKING:
    from collections.abc import Callable


def refusing(code: int) -> Callable[..., None]:
    """A link of a file system that cannot do that."""

    def link(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return link


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "link", refusing(code))
    with pytest.raises(
        SpecError, match=rf"The file system at {tmp_path} has no hard links .*; put the lake on another"
    ):
        FolderStore(tmp_path).create("a/x.json", b"content")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    store.replace("a/x.json", b"one")
    (tmp_path / "source").write_bytes(b"two")
    monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
    for write in (
        lambda: store.replace("a/x.json", b"two"),
        lambda: store.create("a/y.json", b"two"),
        lambda: store.upload(tmp_path / "source", "a/z.json"),
    ):
        with pytest.raises(LakeError, match=rf"No space left on device at {tmp_path}; make room or correct the access"):
            write()
    assert store.read("a/x.json") == b"one"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.json"]


def test_a_folder_that_may_not_be_changed_says_so_as_a_lake_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    store.replace("a/x.json", b"one")

    def refused(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for name in ("mkdir", "unlink", "read_bytes"):
        monkeypatch.setattr(Path, name, refused)
    for operation in (
        lambda: store.replace("a/x.json", b"two"),
        lambda: store.create("a/y.json", b"two"),
        lambda: store.delete("a/x.json"),
        lambda: store.read("a/x.json"),
    ):
        with pytest.raises(LakeError, match=rf"Read-only file system at {tmp_path}/a.*; make room or correct"):
            operation()


def test_a_link_whose_answer_was_lost_is_known_as_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS repeats a request, and finds what it has done."""
    really = os.link

    def link(source: Path, target: Path) -> None:
        really(source, target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", link)
    assert FolderStore(tmp_path).create("x.json", b"content")


@pytest.mark.parametrize("key", ["/etc/x", "../x", "a/../../x"])
def test_a_key_never_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    store = FolderStore(tmp_path / "lake")
    for operation in (store.read, store.delete, store.local_folder, store.sizes, store.list):
        with pytest.raises(DataError, match="leads out of"):
            operation(key)
    for write in (store.create, store.replace):
        with pytest.raises(DataError, match="leads out of"):
            write(key, b"")


def test_a_folder_keeps_the_promises_of_a_store(tmp_path: Path) -> None:
    check_object_store(FolderStore(tmp_path))
