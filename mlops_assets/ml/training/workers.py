"""Data-parallel training: each worker takes its share of every batch, and all make the same step.

A batch is the same set of rows, and its loss the same mean, whatever the number of workers. So the learning rate needs
no change, and results differ by rounding alone from those of one process (apart from dropout and from batch
normalisation, which looks at one worker's share).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Generator

SILENT_FOR = timedelta(minutes=5)  # a peer that says nothing for so long is taken for lost


def batch_sizes(rows: int, batch_size: int) -> list[int]:
    """How many rows each batch has. A single row that is left over joins the batch before it.

    >>> batch_sizes(9, 4), batch_sizes(10, 4), batch_sizes(1, 4)
    ([4, 5], [4, 4, 2], [1])
    """
    sizes = [min(batch_size, rows - start) for start in range(0, rows, batch_size)]
    if batch_size > 1 and len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [batch_size + 1]
    return sizes


@dataclass(frozen=True)
class Share:
    """A worker's part of some batches.

    `rows` are row numbers (n,), `sizes` how many of them belong to each batch, `counts` how many of those count, and
    `weights` what weight the mean loss of each has.
    """

    rows: torch.Tensor
    sizes: list[int]
    counts: list[int]
    weights: list[float]

    def weighted(self, index: int, loss: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch as it enters the mean over the workers."""
        return loss if self.weights[index] == 1 else loss * self.weights[index]


@dataclass(frozen=True)
class Workers:
    """This process among those that train together; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def alone(self) -> bool:
        """Whether one process does it all."""
        return self.count == 1

    def share(self, rows: torch.Tensor, batch_size: int) -> Share:
        """Contiguous parts of the batches of `rows`, equal but for one row, of two rows at least where a batch has two:
        batch normalisation cannot train on one.

        Where a batch has too few rows for all workers, some get rows with weight 0, since all must take part in the
        exchange of gradients. Weights are relative to the mean over workers, which is what DDP computes.
        """
        sizes = batch_sizes(len(rows), batch_size)
        if self.alone:
            return Share(rows, sizes, sizes, [1.0] * len(sizes))
        parts: list[torch.Tensor] = []
        counts: list[int] = []
        for batch in rows.split(sizes):
            busy = min(self.count, max(1, len(batch) // 2))
            start, end = (len(batch) * rank // busy for rank in (self.rank, self.rank + 1))
            counts.append(end - start if self.rank < busy else 0)
            parts.append(batch[start:end] if self.rank < busy else batch[:2])
        weights = [count * self.count / size for count, size in zip(counts, sizes, strict=True)]
        return Share(torch.cat(parts), [len(part) for part in parts], counts, weights)

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model, with gradients that are averaged over the workers."""
        if self.alone:
            return model
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model)

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all workers, the same in each."""
        if not self.alone:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any worker says so."""
        if self.alone:
            return flag
        return bool(self.total(torch.tensor([float(flag)], device=device)) > 0)

    def same(self, number: int, device: torch.device) -> bool:
        """Whether all workers have the same number."""
        if self.alone:
            return True
        mine = torch.zeros(self.count, dtype=torch.int64, device=device)
        mine[self.rank] = number
        return bool((self.total(mine) == number).all())


@contextmanager
def joined() -> Generator[Workers]:
    """Join the workers that torchrun's environment variables describe: by NCCL where each has a GPU, else by gloo."""
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    # NCCL refuses two processes on one GPU
    backend = "nccl" if gpus >= int(os.environ["LOCAL_WORLD_SIZE"]) else "gloo"
    options: dict[str, Any] = {"backend": backend, "timeout": SILENT_FOR}
    dist.init_process_group(**options)
    try:
        yield Workers(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
