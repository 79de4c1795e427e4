"""The conformance test of object stores: one that overwrites fails with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.testing import check_object_store
from resources.lake.folder_store import FolderStore

if TYPE_CHECKING:
    from pathlib import Path


class Overwriting(FolderStore):
    """Forgets to look whether a key is there."""

    def create(self, key: str, content: bytes) -> bool:
        self.replace(key, content)
        return True


def test_a_store_that_overwrites_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="create leaves a key that is there"):
        check_object_store(Overwriting(tmp_path))
