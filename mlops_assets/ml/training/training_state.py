"""The state of a training between two steps, and how a checkpoint keeps it.

The order of the rows in an epoch comes from the seed and the epoch alone; with the random state and the optimiser's
in the checkpoint, the position (epoch, step) is all that is needed to go on bit for bit.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from mlops_assets.ml.errors import TrainingError, TrainingInterrupted
from mlops_assets.ml.features.feature_set import FeatureSet, load_arrays
from mlops_assets.ml.import_paths import construct, import_class
from mlops_assets.ml.training.adam import Adam
from mlops_assets.ml.training.checkpoint import latest_checkpoint, save_checkpoint
from mlops_assets.ml.training.learner import EpochMetrics

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
        torch.manual_seed(config.seed)
        torch.use_deterministic_algorithms(True, warn_only=self.device.type == "cuda")
        x, y = load_arrays(folder, "train")
        self.validation_rows = self.features.validation_rows
        self.rows = len(x) - self.validation_rows
        if self.rows < 1 or self.validation_rows < 1:
            raise TrainingError(f"{len(x)} rows are too few to train on and to validate", remedy="bring more data")
        self.steps = math.ceil(self.rows / config.batch_size)
        resident = x.nbytes <= ON_DEVICE_BYTES
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
        self.loss = self._loss()
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

    def _loss(self) -> torch.nn.Module:
        losses = {
            "regression": nn.MSELoss,
            "binary_classification": nn.BCEWithLogitsLoss,
            "multiclass_classification": nn.CrossEntropyLoss,
        }
        return losses[self.features.task]()

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
        mixed = torch.autocast("cuda", dtype=torch.bfloat16) if self.device.type == "cuda" else nullcontext()
        while self.step < self.steps:
            # Gathering many batches at once costs as much as gathering one
            chunk = order[self.step * size : (self.step + per_chunk) * size]
            share = self._share(chunk)
            rows = share.rows.to(self.x.device)
            x = self.x[rows].to(self.device).split(share.sizes)
            y = self.y[rows.to(self.device)].split(share.sizes)
            losses = list[torch.Tensor]()
            for index, (batch, target) in enumerate(zip(x, y, strict=True)):
                with mixed:
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
            torch.manual_seed((position * self.workers.count + self.workers.rank) % 2**63)
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
        with torch.inference_mode():
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
        tensors |= {"total": self.total, "rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        state = {
            "epochs_done": self.epochs_done,
            "step": self.step,
            "curve": [point.model_dump() for point in self.curve],
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
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
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"])
        self.epochs_done, self.step = state["epochs_done"], state["step"]
        self.curve = [EpochMetrics(**point) for point in state["curve"]]
        self.best_epoch, self.best_loss = state["best_epoch"], state["best_loss"]
        return self.epochs_done, self.step


def make_network(config: TrainingConfig, features: FeatureSet) -> torch.nn.Module:
    """The network with fresh weights: a score for each class, or one for two classes and for regression."""
    outputs = len(features.classes or ()) if features.task == "multiclass_classification" else 1
    return construct(import_class(config.network), config.params, inputs=len(features.feature_names), outputs=outputs)


def with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose name begins with the prefix, by the rest of their name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
