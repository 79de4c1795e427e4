"""Training on a GPU: rows per second, the share of the memory's bandwidth, and the time to the first step.

It needs torch, numpy, safetensors and pydantic alone: `python3 -m bench gpu` on any machine with a GPU. Where torch
sees none, nothing is measured.
"""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.measure import Result, result, say, scratch, seconds
from tests.gpu.training import CONFIG, Order, train, write_features

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.training.training_config import TrainingConfig

ROWS, WIDTH, BATCH = 4_000_000, 32, 65_536
NETWORKS = {"small": [64, 32], "large": [2048, 2048, 2048]}
SPEED = re.compile(r"best epoch .*?, ([\d,]+) rows/s on cuda")


def rows_per_second(said: str) -> float:
    """The speed that a training says at its end.

    >>> rows_per_second("best epoch 2 of 3, 1,234,567 rows/s on cuda")
    1234567.0
    """
    found = SPEED.search(said)
    if found is None:
        raise SystemExit(f"This was no training on a GPU:\n{said}")
    return float(found[1].replace(",", ""))


def bytes_of_row(width: int, hidden: list[int], batch: int) -> float:
    """What a step must move through the GPU's memory at least, a row of its batch, in float32.

    A row's features are gathered (read and written) and read; each activation is written, read by the next layer and by
    the gradient of its weights, and its gradient is written and read. Each weight is read forward and backward, its
    gradient written and read; Adam reads and writes the weight and both moments.

    >>> bytes_of_row(1, [], 1)
    112.0
    """
    widths = [width, *hidden, 1]
    weights = sum((left + 1) * right for left, right in pairwise(widths))
    return 4.0 * (3 * width + 5 * sum(hidden) + 5) + 4.0 * 10 * weights / batch


def bandwidth() -> float:
    """Bytes a second that copying within the GPU's memory moves."""
    import torch

    source = torch.ones(1 << 28, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(20):
            target.copy_(source)
        torch.cuda.synchronize()

    copy()
    return 20 * 2 * source.nbytes / seconds(copy)


def trained(folder: Path, features: Path, config: TrainingConfig) -> str:
    """What a training of this configuration says."""
    return train("cuda", Order(features=str(features), out=str(folder / f"out-{time.time_ns()}"), config=config))


def measure() -> list[Result]:
    """All figures of the GPU; none where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        say("   torch sees no GPU on this machine: nothing is measured")
        return []
    card, most, rows = torch.cuda.get_device_name(), bandwidth(), list[Result]()
    with scratch() as folder:
        features = write_features(folder / "features", ROWS, WIDTH)
        for size, hidden in NETWORKS.items():
            for precision in ("float32", "bfloat16"):
                changed = {"params": {"hidden": hidden}, "batch_size": BATCH, "epochs": 3, "precision": precision}
                speed = rows_per_second(trained(folder, features, CONFIG.model_copy(update=changed)))
                name = f"{card}: {size} network, {precision}"
                rows.append(result(name, speed, "rows/s", "", None, goal=(">=", 1_000_000, "rows/s")))
                share = 100 * speed * bytes_of_row(WIDTH, hidden, BATCH) / most
                if precision == "float32":
                    rows.append(
                        result(f"{name}, of the memory's bandwidth", share, "%", "", None, goal=(">=", 10, "%"))
                    )
        one_step = write_features(folder / "one", 1_000, WIDTH)
        config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 1_000})
        first = seconds(lambda: trained(folder, one_step, config))
        name = f"{card}: from the start of the process to the end of a training of one step"
        return [*rows, result(name, first, "s", "", None, goal=("<=", 10, "s"))]
