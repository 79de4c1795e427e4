"""What the images hold, by the lock files of which Dockerfile builds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
IMAGES = PROJECT / "images"


def packages(file: Path) -> set[str]:
    """Names and versions of a lock file."""
    return set(re.findall(r"^([a-z0-9._-]+==[^\s;]+)", file.read_text(), re.M))


@pytest.mark.parametrize("image", ["platform", "predictor"])
def test_torch_and_cuda_are_in_the_trainer_alone(image: str) -> None:
    heavy = re.compile(r"(torch|triton|nvidia-|cuda-)")
    assert [name for name in sorted(packages(IMAGES / f"{image}.lock")) if heavy.match(name)] == []
    assert any(name.startswith("torch==") for name in packages(IMAGES / "trainer.lock"))


def test_the_trainer_adds_to_the_platform_and_repeats_nothing() -> None:
    assert packages(IMAGES / "trainer.lock").isdisjoint(packages(IMAGES / "platform.lock"))


def test_all_images_have_the_versions_that_were_tested() -> None:
    tested = packages(PROJECT / "requirements.lock")
    for lock in IMAGES.glob("*.lock"):
        assert packages(lock) <= tested, lock.name
