"""Networks as users write them: sound ones with something that is easily forgotten, and faulty ones."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Plain(nn.Module):
    """One linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(inputs, outputs)

    def forward(self, features: torch.Tensor) -> Any:
        return self.last(features)


class Normed(nn.Module):
    """Batch normalisation, which cannot train on one row."""

    def __init__(self, inputs: int, outputs: int, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body(features)


class Tied(nn.Module):
    """Two layers with the same weights, and a view of them as a buffer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs)
        self.second.weight = self.first.weight
        self.last = nn.Linear(inputs, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(features)))))


class Lazy(nn.Module):
    """Layers that learn their width from the first rows they see."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body(features)


class Noisy(Plain):
    """Noise from numpy and from Python while it trains."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training:
            noise = np.random.normal(0, 0.1, tuple(features.shape)).astype(np.float32)
            features = features + torch.from_numpy(noise) * random.random() + random.gauss(0, 0.01)
        return self.last(features)


class Attentive(Plain):
    """It keeps what it has computed last to look at; that decides nothing."""

    seen: torch.Tensor | None = None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(features, dim=1)
        if not torch.compiler.is_exporting():
            self.seen = weights.detach()
        return self.last(features * weights)


class Flat(Plain):
    """(n,) and not (n, 1)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(features).squeeze(-1)


class RowsSummedUp(Plain):
    """What stands above a row in the batch is added to it."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(features.cumsum(0))


class BesideTheMean(Plain):
    """Scaled by the batch, as BatchNorm without running statistics does."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(features - features.mean(dim=0))


class RowsAsSequence(Plain):
    """The rows of a batch as one sequence: batch_first was forgotten."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.memory = nn.LSTM(inputs, inputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(self.memory(features)[0])


class FlatForOneRow(Plain):
    """(outputs,) where there is one row."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(features).squeeze(0)


class Pair(Plain):
    """Scores and something else."""

    def forward(self, features: torch.Tensor) -> Any:
        return self.last(features), features


class Branching(Plain):
    """Control flow that depends on the data."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.mean() > 0:
            return self.last(features)
        return -self.last(features)


class Counting(Plain):
    """A Python attribute as state."""

    steps = 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        return self.last(features) * (1 + self.steps)


class Averaging(Plain):
    """A buffer that is not persistent as state."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mean", torch.zeros(inputs), persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * features.mean(0).detach()
        return self.last(features - self.mean)


class Fourier(Plain):
    """Random frequencies in an attribute that no checkpoint and no exported weight keeps."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.frequencies = torch.randn(inputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(torch.sin(features * self.frequencies))


class ExtraState(Plain):
    """A state that is no tensor."""

    def get_extra_state(self) -> Any:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None: ...

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(features)


class OwnNoise(Plain):
    """Noise from a generator of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.generator = np.random.default_rng(0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training:
            features = features + float(self.generator.normal())
        return self.last(features)


class AlwaysDropping(Plain):
    """Dropout that does not stop in eval mode."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(functional.dropout(features, 0.5))


class Narrow(Plain):
    """A layer that does not fit the features."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(features[:, :2])


class Frozen(Plain):
    """Nothing to learn."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.requires_grad_(False)


class Unmade(nn.Module):
    """It fails before it is a network."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        raise RuntimeError("no such pretrained weights")


class FailsLater(Plain):
    """It fails on a row that the rehearsal does not have."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training and len(features) > 8:
            raise RuntimeError("too many rows for me")
        return self.last(features)


class Saboteur(Plain):
    """It changes torch's global switches and numbers."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)
        return self.last(features)
