"""Training: the same weights whatever happens in between."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mlops_assets.ml.errors import TrainingError, TrainingInterrupted
from mlops_assets.ml.training.learner import LearningCurve
from mlops_assets.ml.training.training_config import EarlyStopping
from tests.training import CONFIG, WIDTH, weights

PROJECT = Path(__file__).parents[4]


def test_two_trainings_give_the_same_bytes(features: Path, tmp_path: Path) -> None:
    assert weights(features, tmp_path / "a") == weights(features, tmp_path / "b")


def test_another_seed_gives_other_weights(features: Path, tmp_path: Path) -> None:
    other = CONFIG.model_copy(update={"seed": 1})
    assert weights(features, tmp_path / "a") != weights(features, tmp_path / "b", other)


@pytest.mark.parametrize("per_chunk", [64, 200])
def test_stopped_at_every_possible_moment_the_weights_are_the_same(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_chunk: int
) -> None:
    monkeypatch.setattr("mlops_assets.ml.training.training_state.CHUNK_ROWS", per_chunk)
    whole = weights(features, tmp_path / "whole")
    curve = (tmp_path / "whole/curve.json").read_bytes()
    stops = 0
    while True:
        asked = iter(range(1_000_000))
        try:
            resumed = weights(features, tmp_path / "stopped", stop_requested=lambda asked=asked: next(asked) >= 1)
            break
        except TrainingInterrupted:
            stops += 1
    assert stops >= 8
    assert resumed == whole
    assert (tmp_path / "stopped/curve.json").read_bytes() == curve


@pytest.mark.parametrize(("network", "batch_size"), [("Normed", 29), ("Tied", 64), ("Noisy", 64), ("Lazy", 29)])
def test_a_network_of_a_user_that_is_stopped_goes_on_to_the_same_weights(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, batch_size: int
) -> None:
    """900 rows are trained on; 900 = 31 x 29 + 1."""
    monkeypatch.setattr("mlops_assets.ml.training.training_state.CHUNK_ROWS", 300)
    config = CONFIG.model_copy(
        update={"network": f"tests.user_networks.{network}", "params": {}, "epochs": 2, "batch_size": batch_size}
    )
    whole = weights(features, tmp_path / "whole", config)
    for _ in range(2):
        asked = iter(range(1_000_000))
        with pytest.raises(TrainingInterrupted):
            weights(features, tmp_path / "stopped", config, stop_requested=lambda asked=asked: next(asked) >= 1)
    assert weights(features, tmp_path / "stopped", config) == whole


def test_torch_numpy_and_random_are_left_as_they_were(features: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"network": "tests.user_networks.Saboteur", "params": {}, "epochs": 1})
    torch.set_num_threads(2)
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    weights(features, tmp_path / "out", config)
    after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_is_the_yamls_and_not_the_machines(features: Path, tmp_path: Path, precision: str) -> None:
    config = CONFIG.model_copy(update={"precision": precision})
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    mine = weights(features, tmp_path / "a", config)
    assert mine == weights(features, tmp_path / "b", config)
    assert mine != weights(features, tmp_path / "c", CONFIG.model_copy(update={"precision": other}))


@pytest.mark.long
def test_kill_9_and_resume(features: Path, tmp_path: Path) -> None:
    whole = weights(features, tmp_path / "whole", config := CONFIG.model_copy(update={"epochs": 40}))
    out = tmp_path / "killed"
    out.mkdir()
    program = (
        "import sys; from pathlib import Path\n"
        "import mlops_assets.ml.training.training_state as state; state.CHUNK_ROWS = 128\n"
        "from mlops_assets.ml.training.training_config import TrainingConfig\n"
        "from tests.support import fit\n"
        "config = TrainingConfig.model_validate_json(sys.argv[3])\n"
        "fit(Path(sys.argv[1]), Path(sys.argv[2]), config, checkpoint_every_s=0)\n"
    )
    kills = 0
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(features), str(out), config.model_dump_json()], cwd=PROJECT
        )
        seen = set((out / "checkpoints").glob("checkpoint-*"))
        while process.poll() is None and len(set((out / "checkpoints").glob("checkpoint-*")) - seen) < 2:
            time.sleep(0.002)
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
        if kills == 4:
            break
    assert kills >= 2
    assert weights(features, out, config) == whole


def test_training_ends_when_validation_does_not_improve(features: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={
            "epochs": 200,
            "early_stopping": EarlyStopping(patience=3),
            "schedule": "constant",
            "learning_rate": 0.05,
        }
    )
    weights(features, tmp_path / "out", config)
    losses = [point.validation_loss for point in LearningCurve.read(tmp_path / "out").points]
    assert len(losses) < 200
    assert losses.index(min(losses)) == len(losses) - 1 - 3


def test_it_learns_and_logs_its_progress(features: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    weights(features, tmp_path / "out", CONFIG.model_copy(update={"epochs": 15}), log=lines.append)
    losses = [point.validation_loss for point in LearningCurve.read(tmp_path / "out").points]
    assert losses[-1] < 0.75 * losses[0]
    assert len(lines) == 16, "one for each epoch, and the best one"
    assert all("rows/s" in line for line in lines)


def test_too_few_rows(features: Path, tmp_path: Path) -> None:
    np.save(features / "x_train.npy", np.zeros((1, WIDTH), dtype=np.float32))
    np.save(features / "y_train.npy", np.zeros(1, dtype=np.int64))
    with pytest.raises(TrainingError, match="too few"):
        weights(features, tmp_path / "out")
