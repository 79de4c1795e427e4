"""Checkpoints: the newest undamaged one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrainingInterrupted
from mlops_assets.ml.training import checkpoint
from tests.training import weights

if TYPE_CHECKING:
    from pathlib import Path


def test_a_damaged_checkpoint_is_passed_over(features: Path, tmp_path: Path) -> None:
    whole = weights(features, tmp_path / "whole")
    out = tmp_path / "damaged"
    asked = iter(range(100))
    with pytest.raises(TrainingInterrupted):
        weights(features, out, checkpoint_every_s=0, stop_requested=lambda: next(asked) >= 3)
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert len(names) == checkpoint.KEPT
    newest = out / "checkpoints" / names[-1]
    newest.write_bytes(newest.read_bytes()[:-7] + b"garbage")
    assert weights(features, out) == whole
