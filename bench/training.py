"""Training against a plain PyTorch DataLoader loop: rows per second, and time to the same quality."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.measure import Result, in_turn, result, scratch
from mlops_assets.ml.data.contract import NamedColumn
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.learners import learner_for
from mlops_assets.ml.training.training_config import TrainingConfig
from resources.lake.folder_store import FolderStore
from resources.lake.lake_checkpoints import LakeCheckpoints

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS, WIDTH = 160_000, 8
HELD_OUT = 20_000
ANCHOR = "plain PyTorch DataLoader loop"
ANCHOR_EPOCHS = 6


def data(rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A smooth function of the features with noise."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, WIDTH)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] ** 2 + 0.3 * x[:, 4] + generator.normal(0, 0.1, rows)
    return x, ((y - y.mean()) / y.std()).astype(np.float32)


def write(folder: Path, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    """The arrays as the features stage writes them."""
    np.save(folder / "x_train.npy", x)
    np.save(folder / "y_train.npy", y)
    names = tuple(f"c{index}" for index in range(WIDTH))
    FeatureSet(
        task="regression",
        inputs=tuple(NamedColumn(name=name, type="number") for name in names),
        feature_names=names,
        train_rows=len(x),
        validation_rows=len(x) // 10,
        test_rows=0,
        classes=None,
        target_mean=0.0,
        target_std=1.0,
        non_finite={},
        rare={},
    ).write(folder)


def ours(folder: Path, **changed: Any) -> float:
    """Seconds to train from the arrays on disk to the weights on disk."""
    config = TrainingConfig(network="mlops_assets.ml.networks.MLP", params={"hidden": [64, 32]}, **changed)
    start = time.perf_counter()
    run = TrainingRun(LakeCheckpoints(FolderStore(folder), f"checkpoints-{start}"), timedelta(minutes=1))
    learner_for(config, FeatureSet.read(folder)).fit(folder, folder, run)
    return time.perf_counter() - start


def plain(x: NDArray[np.float32], y: NDArray[np.float32], batch: int, epochs: int) -> tuple[float, Any]:
    """Seconds and network of the loop that tutorials show."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from mlops_assets.ml.networks import MLP

    torch.manual_seed(0)
    network = MLP(WIDTH, 1, [64, 32])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss_of = torch.nn.MSELoss()
    loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=batch, shuffle=True)
    start = time.perf_counter()
    for _ in range(epochs):
        for rows, target in loader:
            optimizer.zero_grad()
            loss = loss_of(network(rows).squeeze(1), target)
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start, network


def r2(network: Any, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """R2 on these rows."""
    import torch

    with torch.inference_mode():
        predicted = network(torch.from_numpy(x)).squeeze(1).numpy()
    return float(1 - np.mean((predicted - y) ** 2) / np.var(y))


def trained(folder: Path) -> Any:
    """The network with the weights our training has written."""
    from safetensors.torch import load_file

    from mlops_assets.ml.networks import MLP

    network = MLP(WIDTH, 1, [64, 32])
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network


def measure() -> list[Result]:
    """All figures of training."""
    x, y = data(ROWS, 0)
    held_x, held_y = data(HELD_OUT, 1)
    results = list[Result]()
    with scratch() as folder:
        write(folder, x, y)
        ours(folder, epochs=1, batch_size=4096)  # imports, and warms up
        for batch in (32, 64):
            theirs, mine = in_turn(
                5,
                lambda batch=batch: ROWS / plain(x, y, batch, 1)[0],
                # a tenth of the rows validates, and is not counted
                lambda batch=batch: 0.9 * ROWS / ours(folder, epochs=1, batch_size=batch),
            )
            results.append(result(f"training, batch {batch}", mine, "rows/s", ANCHOR, theirs, goal=(">=", 2.2, "x")))
        theirs, network = plain(x, y, 32, ANCHOR_EPOCHS)
        wanted = r2(network, held_x, held_y)
        settings = {"epochs": 6, "batch_size": 1024, "learning_rate": 0.02, "schedule": "cosine"}
        [mine] = in_turn(3, lambda: ours(folder, **settings))
        reached = r2(trained(folder), held_x, held_y)
        name = f"training to held-out R2 {wanted:.4f} (ours {reached:.4f})"
        anchor = f"{ANCHOR}, batch 32, {ANCHOR_EPOCHS} epochs"
        row = result(name, mine, "s", anchor, theirs, goal=(">=", 20, "x"), better="less")
        results.append(row.model_copy(update={"ok": row.ok and reached >= wanted}))
    return results
