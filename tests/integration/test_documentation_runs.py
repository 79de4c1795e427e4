"""What the README, the tutorial and the page on operations tell to do is done, in order, and gives what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.documentation import PROJECT, Block, Reader, blocks, difference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = ["README.md", "docs/tutorial.md", "docs/operations.md"]
# Why a block may be left out
REASONS = {"needs a cluster", "installs 7 GB", "runs this test"}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A fresh clone, with its own state and ports."""
    made = Reader(tmp_path)
    yield made
    made.shell(".venv/bin/python -m mlops_assets.cli servers stop")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, reader: Reader) -> None:
    assert reader.follow((PROJECT / page).read_text()) == []
