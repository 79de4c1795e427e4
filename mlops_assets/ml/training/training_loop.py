"""Trains a torch network, so that a run killed at any moment ends with the same weights as one that was not."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import TrainingInterrupted
from mlops_assets.ml.training.checkpoint import latest_checkpoint
from mlops_assets.ml.training.learner import LearningCurve
from mlops_assets.ml.training.reproducible import reproducible
from mlops_assets.ml.training.training_state import TrainingState, with_prefix
from mlops_assets.ml.training.user_network import memory_errors
from mlops_assets.ml.training.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import torch

    from mlops_assets.ml.training.checkpoint import CheckpointStore
    from mlops_assets.ml.training.learner import TrainingRun
    from mlops_assets.ml.training.training_config import TrainingConfig

PROGRESS_EVERY_S = 5.0
ALONE = Workers()


@dataclass(frozen=True)
class TrainingResult:
    """The weights of the best epoch, and the losses of all."""

    weights: dict[str, torch.Tensor]
    curve: LearningCurve


def train(folder: Path, config: TrainingConfig, run: TrainingRun) -> TrainingResult:
    """Train on the arrays in `folder`.

    Binary classification learns one logit by cross-entropy, multiclass one logit for each class, regression the
    standardised target by squared error; Adam throughout. The last rows of the train part (a random sample, since rows
    are ordered by digest) steer early stopping and choose the best epoch.

    Raises:
        TrainingInterrupted: `run.stop_requested` said so; a checkpoint was written first.
        TrainingError: the network cannot be made or run, or the loss is not finite any more.
    """
    with _training(folder, config, ALONE) as training:
        _to_the_end(training, run)
    return TrainingResult(training.best, LearningCurve(points=tuple(training.curve)))


def train_share(folder: Path, config: TrainingConfig, run: TrainingRun, workers: Workers) -> None:
    """One worker's part of a training by several. It ends with a checkpoint, which `finished_training` reads.

    When one worker is asked to stop, all do. Errors are those of `train`.
    """
    with _training(folder, config, workers) as training:
        _to_the_end(training, run)
        if workers.rank == 0:
            training.save(run.checkpoints)


def finished_training(checkpoints: CheckpointStore) -> TrainingResult | None:
    """The result in the newest checkpoint, if that is of a training that was finished."""
    found = latest_checkpoint(checkpoints)
    if found is None or not found[2]["finished"]:
        return None
    _, tensors, state = found
    return TrainingResult(with_prefix("best.", tensors), LearningCurve.model_validate({"points": state["curve"]}))


@contextmanager
def _training(folder: Path, config: TrainingConfig, workers: Workers) -> Generator[TrainingState]:
    gc.freeze()  # the steps make much garbage, and searching what the libraries have loaded for more takes long
    try:
        with reproducible(config.seed), memory_errors():
            yield TrainingState(folder, config, workers)
    finally:
        gc.unfreeze()


def _to_the_end(training: TrainingState, run: TrainingRun) -> None:
    """Train to the end, or to the checkpoint that is written when a stop is requested."""
    workers, clock = training.workers, _Clock(run.checkpoint_every.total_seconds())
    resumed_from = training.restore(run.checkpoints)
    if resumed_from:
        run.log(f"resuming at epoch {resumed_from[0] + 1}, step {resumed_from[1]}, from a checkpoint")
    while not training.finished:
        for rows in training.epoch():
            clock.rows += rows
            stopping = workers.any(run.stop_requested(), training.device)
            if (stopping or clock.checkpoint_is_due()) and workers.rank == 0:
                training.save(run.checkpoints)
            if stopping:
                raise TrainingInterrupted(
                    f"Training was asked to stop and can go on from epoch {training.epochs_done + 1}"
                )
            if clock.progress_is_due():
                run.log(training.progress(clock.rows_per_second))
        metrics = training.end_epoch()
        losses = f"loss {metrics.train_loss:.5f}, validation {metrics.validation_loss:.5f}"
        run.log(f"epoch {metrics.epoch}: {losses}, {clock.rows_per_second:,.0f} rows/s")
    run.tell_speed(clock.rows_per_second)
    by = "" if workers.alone else f" by {workers.count} workers"
    speed = f"{clock.rows_per_second:,.0f} rows/s{by} on {training.device.type}"
    run.log(f"best epoch {training.best_epoch} of {len(training.curve)}, {speed}")


class _Clock:
    """When to write a checkpoint, when to log progress, and how fast it goes."""

    def __init__(self, checkpoint_every_s: float) -> None:
        self.checkpoint_every_s = checkpoint_every_s
        self.start = self.saved = self.logged = time.monotonic()
        self.rows = 0

    @property
    def rows_per_second(self) -> float:
        return self.rows / max(time.monotonic() - self.start, 1e-9)

    def checkpoint_is_due(self) -> bool:
        due = time.monotonic() - self.saved >= self.checkpoint_every_s
        if due:
            self.saved = time.monotonic()
        return due

    def progress_is_due(self) -> bool:
        due = time.monotonic() - self.logged >= PROGRESS_EVERY_S
        if due:
            self.logged = time.monotonic()
        return due
