"""Trains a torch network, so that a run killed at any moment ends with the same weights as one that was not."""

from __future__ import annotations

import gc
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import TrainingInterrupted
from mlops_assets.ml.training.checkpoint import latest
from mlops_assets.ml.training.training_state import EpochMetrics, TrainingState, below
from mlops_assets.ml.training.workers import Workers
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    import torch

    from mlops_assets.ml.training.checkpoint import CheckpointStore
    from mlops_assets.ml.training.training_config import TrainingConfig

SAY_EVERY_S = 5.0
ALONE = Workers()


class TrainingResult(Value):
    """How a training went."""

    curve: tuple[EpochMetrics, ...]
    best_epoch: int
    rows_per_second: float
    device: str
    resumed_from: tuple[int, int] | None


def train(
    features: Path,
    out: Path,
    config: TrainingConfig,
    checkpoints: CheckpointStore,
    *,
    checkpoint_every_s: float = 60.0,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train on the arrays in `features`; write the best epoch's weights and curve.json into `out`.

    Binary classification learns one logit by cross-entropy, multiclass one logit for each class, regression the
    standardised target by squared error; Adam throughout. The last rows of the train part (a random sample, since rows
    are ordered by digest) steer early stopping and choose the best epoch.

    Raises:
        TrainingInterrupted: `stop_requested` said so; a checkpoint was written first.
        TrainingError: the network cannot be made, or the loss is not finite any more.
    """
    with _training(features, config, ALONE) as training:
        result = _run(training, checkpoints, _Clock(checkpoint_every_s), on_epoch, say, stop_requested)
    _write(out, training.best, [point.model_dump() for point in training.curve])
    return result


def train_share(
    features: Path,
    config: TrainingConfig,
    checkpoints: CheckpointStore,
    workers: Workers,
    *,
    checkpoint_every_s: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """One worker's part of a training by several. It ends with a checkpoint, from which `collect` takes the result.

    When one worker is asked to stop, all do. Errors are those of `train`.
    """
    with _training(features, config, workers) as training:
        result = _run(training, checkpoints, _Clock(checkpoint_every_s), lambda _: None, say, stop_requested)
        if workers.rank == 0:
            training.save(checkpoints)
    return result


def collect(checkpoints: CheckpointStore, out: Path) -> bool:
    """Write into `out` what `train` writes, if the newest checkpoint is of a training that was finished."""
    found = latest(checkpoints)
    if found is None or not found[2]["finished"]:
        return False
    _, tensors, state = found
    _write(out, below("best.", tensors), state["curve"])
    return True


def _write(out: Path, weights: Mapping[str, torch.Tensor], curve: Sequence[Mapping[str, Any]]) -> None:
    from safetensors.torch import save_file

    (out / "curve.json").write_text(json.dumps(curve, indent=1))
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, out / "weights.safetensors")


@contextmanager
def _training(features: Path, config: TrainingConfig, workers: Workers) -> Generator[TrainingState]:
    import torch

    threads = torch.get_num_threads()
    gc.freeze()  # the steps make much garbage, and searching what the libraries have loaded for more takes long
    try:
        yield TrainingState(features, config, workers)
    finally:
        torch.set_num_threads(threads)
        gc.unfreeze()


def _run(
    training: TrainingState,
    checkpoints: CheckpointStore,
    clock: _Clock,
    on_epoch: Callable[[EpochMetrics], None],
    say: Callable[[str], None],
    stop_requested: Callable[[], bool],
) -> TrainingResult:
    """Train to the end, or to the checkpoint that is written when a stop is requested."""
    workers = training.workers
    resumed_from = training.restore(checkpoints)
    if resumed_from:
        say(f"resuming at epoch {resumed_from[0] + 1}, step {resumed_from[1]}, from a checkpoint")
    while not training.finished:
        for rows in training.epoch():
            clock.count(rows)
            stopping = workers.any(stop_requested(), training.device)
            if (stopping or clock.checkpoint_is_due()) and workers.rank == 0:
                training.save(checkpoints)
            if stopping:
                raise TrainingInterrupted(
                    f"Training was asked to stop and can go on from epoch {training.epochs_done + 1}."
                )
            if clock.report_is_due():
                say(training.progress(clock.rate))
        metrics = training.end_epoch()
        on_epoch(metrics)
        losses = f"loss {metrics.train_loss:.5f}, validation {metrics.validation_loss:.5f}"
        say(f"epoch {metrics.epoch}: {losses}, {clock.rate:,.0f} rows/s")
    return TrainingResult(
        curve=tuple(training.curve),
        best_epoch=training.best_epoch,
        rows_per_second=clock.rate,
        device=training.device.type,
        resumed_from=resumed_from,
    )


class _Clock:
    """When to save, when to tell, and how fast it goes."""

    def __init__(self, checkpoint_every_s: float) -> None:
        self.every = checkpoint_every_s
        self.start = self.saved = self.told = time.monotonic()
        self.rows = 0

    def count(self, rows: int) -> None:
        self.rows += rows

    @property
    def rate(self) -> float:
        return self.rows / max(time.monotonic() - self.start, 1e-9)

    def checkpoint_is_due(self) -> bool:
        due = time.monotonic() - self.saved >= self.every
        if due:
            self.saved = time.monotonic()
        return due

    def report_is_due(self) -> bool:
        due = time.monotonic() - self.told >= SAY_EVERY_S
        if due:
            self.told = time.monotonic()
        return due
