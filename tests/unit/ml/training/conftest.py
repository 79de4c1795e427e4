"""What the tests of training train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training import ROWS, WIDTH, write_features

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Arrays of 1,000 rows whose label follows from the features."""
    folder = tmp_path / "features"
    folder.mkdir()
    write_features(folder, ROWS, WIDTH)
    return folder
