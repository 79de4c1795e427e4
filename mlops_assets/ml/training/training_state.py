"""The state of a training between two steps, and how a checkpoint keeps it.

The order of the rows in an epoch comes from the seed and the epoch alone; with the random state and the optimiser's
in the checkpoint, the position (epoch, step) is all that is needed to go on bit for bit.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from mlops_assets.ml.errors import TrainingError, TrainingInterrupted
from mlops_assets.ml.features.feature_set import FeatureSet, load_arrays
from mlops_assets.ml.training.adam import Adam
from mlops_assets.ml.training.checkpoint import latest_checkpoint, save_checkpoint
from mlops_assets.ml.training.learner import EpochMetrics
from mlops_assets.ml.training.reproducible import random_state, restore_random_state, seed_generators
from mlops_assets.ml.training.user_network import LOSSES, make_network, network_errors
from mlops_assets.ml.training.workers import batch_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_assets.ml.training.checkpoint import CheckpointStore
    from mlops_assets.ml.training.training_config import TrainingConfig
    from mlops_assets.ml.training.workers import Share, Workers

ON_DEVICE_BYTES = 4 << 30
CHUNK_ROWS = 65_536
EVALUATION_ROWS = 65_536
SMALL_STEP = 2_000_000  # multiply-adds of a step below which handing work to other threads costs more than it saves


class TrainingState:
    """The state of a training between two steps."""

    def __init__(self, folder: Path, config: TrainingConfig, workers: Workers) -> None:
        self.workers = workers
        self.config, self.features = config, FeatureSet.read(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        x, y = load_arrays(folder, "train")
        self.validation_rows = self.features.validation_rows
        self.rows = len(x) - self.validation_rows
        if self.rows < 1 or self.validation_rows < 1:
            raise TrainingError(f"{len(x)} rows are too few to train on and to validate", remedy="bring more data")
        self.steps = len(batch_sizes(self.rows, config.batch_size))
        resident = x.nbytes <= _room_for_arrays(self.device)
        self.x = torch.from_numpy(x.copy()).to(self.device) if resident else torch.from_numpy(x)
        self.y = self._targets(torch.from_numpy(y.copy()))
        self.model = make_network(config, self.features).to(self.device)
        self.forward = workers.wrap(self.model)
        if (
            self.device.type == "cpu"
            and sum(map(torch.numel, self.model.parameters())) * config.batch_size < SMALL_STEP * workers.count
        ):
            torch.set_num_threads(1)
        self.optimizer = Adam(self.model.parameters(), config.weight_decay)
        self.loss = LOSSES[self.features.task]()
        self.epochs_done, self.step = 0, 0
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.curve = list[EpochMetrics]()
        self.best, self.best_epoch, self.best_loss = self._weights(), 0, math.inf
        self.saved = 0

    def _targets(self, y: torch.Tensor) -> torch.Tensor:
        if self.features.task == "regression":
            y = (y - self.features.target_mean) / self.features.target_std
        if self.features.task == "multiclass_classification":
            return y.to(torch.long).to(self.device)
        return y.to(torch.float32).unsqueeze(1).to(self.device)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has not improved for too long."""
        stopping = self.config.early_stopping
        stale = stopping is not None and self.epochs_done - self.best_epoch >= stopping.patience
        return self.epochs_done >= self.config.epochs or (self.epochs_done > 0 and stale)

    def epoch(self) -> Iterator[int]:
        """Run the rest of the current epoch; yields the number of rows done since the last yield."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.epochs_done)
        order = torch.randperm(self.rows, generator=generator)
        self.model.train()
        size = self.config.batch_size
        per_chunk = max(1, CHUNK_ROWS // size)
        mixed = self.config.precision == "bfloat16"
        precision = torch.autocast(self.device.type, dtype=torch.bfloat16) if mixed else nullcontext()
        while self.step < self.steps:
            # Gathering many batches at once costs as much as gathering one
            end = (self.step + per_chunk) * size if self.step + per_chunk < self.steps else self.rows
            chunk = order[self.step * size : end]
            share = self._share(chunk)
            rows = share.rows.to(self.x.device)
            x = self.x[rows].to(self.device).split(share.sizes)
            y = self.y[rows.to(self.device)].split(share.sizes)
            losses = list[torch.Tensor]()
            with network_errors(self.config.network, f"fails in epoch {self.epochs_done + 1}"):
                for index, (batch, target) in enumerate(zip(x, y, strict=True)):
                    with precision:
                        output = self.forward(batch)
                    loss = self.loss(output.float(), target)
                    share.weighted(index, loss).backward()
                    self.optimizer.step(self._learning_rate())
                    losses.append(loss.detach())
                    self.step += 1
            counts = torch.tensor(share.counts, dtype=torch.float64, device=self.device)
            self.total += self.workers.total(torch.stack(losses).double() @ counts)
            yield len(chunk)

    def _share(self, chunk: torch.Tensor) -> Share:
        if not self.workers.alone:
            # A checkpoint holds the random state of one worker: that of each begins anew from where the training is
            position = (self.config.seed * 1_000_003 + self.epochs_done) * 1_000_003 + self.step
            seed_generators(position * self.workers.count + self.workers.rank)
        return self.workers.share(chunk, self.config.batch_size)

    def _learning_rate(self) -> float:
        if self.config.schedule == "constant":
            return self.config.learning_rate
        done = (self.epochs_done * self.steps + self.step) / (self.config.epochs * self.steps)
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def end_epoch(self) -> EpochMetrics:
        """Validate, keep the weights if they are the best so far, and move to the next epoch."""
        validation = self._validation_loss()
        train_loss = float(self.total) / self.rows
        if not math.isfinite(train_loss) or not math.isfinite(validation):
            remedy = f"lower train.learning_rate ({self.config.learning_rate:g})"
            raise TrainingError(f"The loss is {train_loss} after epoch {self.epochs_done + 1}", remedy=remedy)
        self.epochs_done, self.step = self.epochs_done + 1, 0
        self.total.zero_()
        metrics = EpochMetrics(epoch=self.epochs_done, train_loss=train_loss, validation_loss=validation)
        self.curve.append(metrics)
        stopping = self.config.early_stopping
        if validation < self.best_loss - (stopping.min_delta if stopping else 0):
            self.best, self.best_epoch, self.best_loss = self._weights(), self.epochs_done, validation
        return metrics

    def _validation_loss(self) -> float:
        self.model.eval()
        total = 0.0
        first, last = (
            self.rows + self.validation_rows * rank // self.workers.count
            for rank in (self.workers.rank, self.workers.rank + 1)
        )
        with torch.inference_mode(), network_errors(self.config.network, "fails on the validation rows"):
            for start in range(first, last, EVALUATION_ROWS):
                end = min(start + EVALUATION_ROWS, last)
                output = self.model(self.x[start:end].to(self.device))
                loss = self.loss(output, self.y[start:end])
                total += float(loss) * (end - start)
            of_all = self.workers.total(torch.tensor(total, dtype=torch.float64, device=self.device))
        return float(of_all) / self.validation_rows

    def progress(self, rate: float) -> str:
        """Where training is, how fast it goes, and how long it takes at most."""
        left = (self.config.epochs - self.epochs_done) * self.steps - self.step
        seconds = left * self.config.batch_size / rate
        return (
            f"epoch {self.epochs_done + 1}/{self.config.epochs}, step {self.step}/{self.steps}: "
            f"{rate:,.0f} rows/s, at most {seconds:,.0f} s left"
        )

    def save(self, checkpoints: CheckpointStore) -> None:
        """Write everything that decides what comes next."""
        self.saved += 1
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.tensors().items()}
        generators, others = random_state()
        tensors |= {"total": self.total} | {f"rng.{name}": tensor for name, tensor in generators.items()}
        state = {
            "epochs_done": self.epochs_done,
            "step": self.step,
            "curve": [point.model_dump() for point in self.curve],
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "random": others,
            "threads": torch.get_num_threads(),
            "finished": self.finished,
        }
        save_checkpoint(checkpoints, self.saved, tensors, state)

    def restore(self, checkpoints: CheckpointStore) -> tuple[int, int] | None:
        """Go back to the newest checkpoint; its epoch and step, or None when there is none."""
        found = latest_checkpoint(checkpoints)
        if not self.workers.same(found[0] if found else 0, self.device):
            raise TrainingInterrupted("The workers have found different checkpoints", remedy="try again")
        if found is None:
            return None
        self.saved, tensors, state = found
        # Sums over several threads depend on how many there are
        torch.set_num_threads(state["threads"])
        self.model.load_state_dict(with_prefix("model.", tensors))
        self.optimizer.load(with_prefix("optimizer.", tensors))
        self.best = {name: tensor.to(self.device) for name, tensor in with_prefix("best.", tensors).items()}
        self.total = tensors["total"].to(self.device)
        restore_random_state(with_prefix("rng.", tensors), state["random"])
        self.epochs_done, self.step = state["epochs_done"], state["step"]
        self.curve = [EpochMetrics(**point) for point in state["curve"]]
        self.best_epoch, self.best_loss = state["best_epoch"], state["best_loss"]
        return self.epochs_done, self.step


def _room_for_arrays(device: torch.device) -> int:
    """How many bytes of features may stay on the device; more are brought there a chunk at a time."""
    if device.type == "cpu":
        return ON_DEVICE_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return min(ON_DEVICE_BYTES, free // 2)


def with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose name begins with the prefix, by the rest of their name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
