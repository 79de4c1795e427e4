"""What surrounds a training."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mlops_assets.ml.training.learner import EpochMetrics, LearningCurve, TrainingRun
from resources.lake.folder_store import FolderStore
from resources.lake.lake_checkpoints import LakeCheckpoints

if TYPE_CHECKING:
    from pathlib import Path


def test_a_learning_curve_is_read_as_it_was_written(tmp_path: Path) -> None:
    curve = LearningCurve(points=(EpochMetrics(epoch=1, train_loss=0.7, validation_loss=0.1 + 0.2),))
    curve.write(tmp_path)
    assert LearningCurve.read(tmp_path) == curve
    assert LearningCurve().points == ()


def test_nobody_stops_a_training_unless_it_is_said(tmp_path: Path) -> None:
    run = TrainingRun(LakeCheckpoints(FolderStore(tmp_path), "checkpoints"), timedelta(seconds=60))
    assert run.stop_requested() is False
    assert run.log("epoch 1") is None
