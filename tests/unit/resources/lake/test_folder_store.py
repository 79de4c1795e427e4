"""The store below a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.testing import check_object_store
from resources.lake.folder_store import FolderStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_keeps_the_promises_of_a_store(tmp_path: Path) -> None:
    check_object_store(FolderStore(tmp_path))
