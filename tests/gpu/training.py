"""A training in a process of its own, on a GPU or kept from it, for the tests and figures of GPUs.

As a program it takes an `Order` as JSON, and torchrun's variables where several train together.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlops_assets.ml.data.contract import NamedColumn
from mlops_assets.ml.errors import MlopsError
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[2]
Device = Literal["cpu", "cuda"]
CONFIG = TrainingConfig(
    network="mlops_assets.ml.networks.MLP",
    params={"hidden": [32, 16]},
    epochs=4,
    batch_size=64,
    learning_rate=0.01,
    schedule="cosine",
)


class Order(Value):
    """What is trained on which arrays, and where the weights go."""

    features: str
    out: str
    config: TrainingConfig = CONFIG
    checkpoint_every_s: float = 60
    chunk_rows: int | None = None
    on_device_bytes: int | None = None
    memory_bytes: int | None = None
    """What the process may take of this machine's memory."""


def write_features(folder: Path, rows: int, width: int) -> Path:
    """Arrays of a features snapshot: a regression on a smooth function of three features."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "x_train.npy", "w+", np.float32, (rows, width))
    for start in range(0, rows, 65_536):
        part = x[start : start + 65_536]
        part[:] = generator.standard_normal(part.shape, dtype=np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + generator.normal(0, 0.1, rows)
    np.save(folder / "y_train.npy", y)
    names = tuple(f"c{index}" for index in range(width))
    FeatureSet(
        task="regression",
        inputs=tuple(NamedColumn(name=name, type="number") for name in names),
        feature_names=names,
        train_rows=rows,
        validation_rows=max(1, rows // 10),
        test_rows=0,
        classes=None,
        target_mean=float(y.mean()),
        target_std=float(y.std()),
        non_finite={},
        rare={},
    ).write(folder)
    return folder


def start(device: Device, order: Order, **variables: str) -> subprocess.Popen[str]:
    """A process that trains; a CPU is all that it sees for the device `cpu`."""
    seen = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.gpu.training", order.model_dump_json()],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)} | seen | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(device: Device, order: Order) -> str:
    """Train to the end in a process of its own; what it says."""
    process = start(device, order)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def refused(device: Device, order: Order) -> str:
    """What a training says that fails with an error of ours."""
    process = start(device, order)
    said, _ = process.communicate()
    assert process.returncode == 1, said
    return said.splitlines()[-1]


def weights(order: Order) -> dict[str, Any]:
    """The weights that a training has written, on the CPU."""
    from safetensors.numpy import load_file

    return load_file(Path(order.out) / "weights.safetensors")


def main(order: Order) -> int:
    """Train as the order says; 1 where that ends with an error of ours, which is the last line."""
    from mlops_assets.ml.training import training_state
    from mlops_assets.ml.training.network_learner import NetworkLearner
    from resources.lake.folder_store import FolderStore
    from resources.lake.lake_checkpoints import LakeCheckpoints

    out = Path(order.out)
    out.mkdir(parents=True, exist_ok=True)
    if order.chunk_rows is not None:
        training_state.CHUNK_ROWS = order.chunk_rows
    if order.on_device_bytes is not None:
        training_state.ON_DEVICE_BYTES = order.on_device_bytes
    if order.memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (order.memory_bytes, order.memory_bytes))
    features, say = Path(order.features), lambda text: print(text, flush=True)
    run = TrainingRun(
        LakeCheckpoints(FolderStore(out), "checkpoints"), timedelta(seconds=order.checkpoint_every_s), log=say
    )
    try:
        if "LOCAL_RANK" in os.environ:
            _share(features, order.config, run)
        else:
            NetworkLearner(order.config, FeatureSet.read(features)).fit(features, out, run).write(out)
    except MlopsError as error:
        say(str(error))
        return 1
    return 0


def _share(features: Path, config: TrainingConfig, run: TrainingRun) -> None:
    from mlops_assets.ml.training.training_loop import train_share
    from mlops_assets.ml.training.workers import joined

    with joined() as workers:
        train_share(features, config, run, workers)


def each_of(count: int, begin: Callable[[int], subprocess.Popen[str]]) -> list[str]:
    """What several processes say that run together."""
    processes = [begin(rank) for rank in range(count)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "\n".join(said)
    return said


if __name__ == "__main__":
    raise SystemExit(main(Order.model_validate_json(sys.argv[1])))
