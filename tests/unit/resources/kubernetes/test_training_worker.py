"""Training by several workers: the real torchrun and gloo, with a process for each worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from dagster_pipes import encode_param
from safetensors.numpy import load_file

from mlops_assets.ml.training.learner import LearningCurve
from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.ml.training.training_loop import finished_training
from resources.environment import Environment
from resources.kubernetes.step_pod import EXIT_TERMINATED
from resources.kubernetes.training_worker import TrainingOrder
from resources.lake.lake_checkpoints import LakeCheckpoints
from tests.support import fit, free_port
from tests.training import write_features

if TYPE_CHECKING:
    from pathlib import Path

    pass


# The last batch has 1 row of 1,665, fewer than there are workers
ROWS, WIDTH, BATCH = 1_850, 5, 64
CONFIG = TrainingConfig(
    network="mlops_assets.ml.networks.MLP",
    params={"hidden": [16]},
    epochs=6,
    batch_size=BATCH,
    learning_rate=0.01,
    schedule="cosine",
)
CHECKPOINTS = "model/trained_model/v/checkpoints"


class Training:
    """A lake with features, and trainings of them by the command that a worker's pod runs."""

    def __init__(self, home: Path, config: TrainingConfig = CONFIG) -> None:
        self.home, self.config = home, config
        self.variables = os.environ | {"MLOPS_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self.lake = Environment.read(self.variables).lake()
        self.checkpoints = LakeCheckpoints(self.lake.store, CHECKPOINTS)
        with self.lake.publishing("model/features", "v") as folder:
            write_features(folder, ROWS, WIDTH)
        self.features = self.lake.fetch("model/features", "v")

    def start(self, workers: int, every: timedelta = timedelta(minutes=1)) -> subprocess.Popen[bytes]:
        """Start the training."""
        order = TrainingOrder(
            features_prefix="model/features",
            features_version="v",
            checkpoints=CHECKPOINTS,
            checkpoint_every=every,
            config=self.config,
        )
        names = ("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key")
        data = dict.fromkeys((*names, "partition_key_range", "partition_time_window", "job_name"))
        context = {"data": data | {"run_id": "run", "retry_number": 0, "extras": order.model_dump(mode="json")}}
        variables = {
            "DAGSTER_PIPES_CONTEXT": encode_param(context),
            "DAGSTER_PIPES_MESSAGES": encode_param({"path": str(self.home / "messages")}),
            "PET_NNODES": "1",
            "PET_NODE_RANK": "0",
            "PET_NPROC_PER_NODE": str(workers),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(free_port()),
        }
        command = [sys.executable, "-m", "resources.kubernetes.training_worker"]
        return subprocess.Popen(command, env=self.variables | variables)

    def said(self) -> str:
        """What was told to Dagster."""
        file = self.home / "messages"
        lines = file.read_text().splitlines() if file.exists() else []
        messages = [json.loads(line) for line in lines]
        return "\n".join(str((message["params"] or {}).get("message", message["params"])) for message in messages)

    def result(self) -> tuple[dict[str, np.ndarray[Any, Any]], list[dict[str, float]]]:
        """Weights and learning curve."""
        found = finished_training(self.checkpoints)
        assert found is not None, "the training was not finished"
        return {name: weight.numpy() for name, weight in found.weights.items()}, found.curve.model_dump()["points"]


def worker(agent: int, rank: int) -> psutil.Process:
    """The process of a worker below torchrun's agent, once it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(agent).children():
            with suppress(psutil.Error):
                if child.environ().get("RANK") == str(rank):
                    return child
        time.sleep(0.1)
    raise AssertionError(f"worker {rank} did not start")


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_three_workers_make_the_model_that_one_process_makes(tmp_path: Path) -> None:
    training = Training(tmp_path / "three")
    assert training.start(3).wait(120) == 0
    weights, curve = training.result()
    alone = tmp_path / "alone"
    fit(training.features, alone, CONFIG)
    expected = load_file(alone / "weights.safetensors")
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-3, atol=1e-4)
    for point, wanted in zip(curve, LearningCurve.read(alone).model_dump()["points"], strict=True):
        assert point == pytest.approx(wanted, rel=1e-4)
    assert "3 workers on cpu" in training.said()
    assert training.said().count("epoch 6: loss") == 1, "one worker speaks"


LONG = CONFIG.model_copy(update={"epochs": 150, "params": {"hidden": [64, 32], "dropout": 0.2}})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of two workers that nothing interrupts; dropout makes them depend on the random state."""
    training = Training(tmp_path_factory.mktemp("calm"), LONG)
    assert training.start(2).wait(180) == 0
    return training.result()[0]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, EXIT_TERMINATED, marks=pytest.mark.faults),
        pytest.param(signal.SIGKILL, 128 + signal.SIGKILL, marks=pytest.mark.long),
    ],
)
def test_a_lost_worker_ends_all_and_the_next_try_ends_with_the_same_weights(
    tmp_path: Path, undisturbed: dict[str, Any], number: signal.Signals, code: int
) -> None:
    training = Training(tmp_path / "home", LONG)
    agent = training.start(2, every=timedelta(seconds=0.5))
    second = worker(agent.pid, 1)
    deadline = time.monotonic() + 90
    while not training.checkpoints.names():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second.send_signal(number)
    assert agent.wait(120) == code
    assert finished_training(training.checkpoints) is None, "it was interrupted before its end"
    assert training.start(2).wait(180) == 0
    assert "resuming at epoch" in training.said()
    assert equal(training.result()[0], undisturbed)


@pytest.mark.long
def test_a_checkpoint_serves_another_number_of_workers(tmp_path: Path) -> None:
    training = Training(tmp_path / "home", CONFIG.model_copy(update={"epochs": 60}))
    agent = training.start(3, every=timedelta(seconds=0))
    worker(agent.pid, 2)
    deadline = time.monotonic() + 90
    while not training.checkpoints.names():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(120) == EXIT_TERMINATED
    alone = tmp_path / "alone"
    fit(training.features, alone, training.config)
    assert training.start(2).wait(120) == 0
    weights, _ = training.result()
    for name, value in load_file(alone / "weights.safetensors").items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-2, atol=1e-3)


def test_what_is_wrong_is_told_to_dagster(tmp_path: Path) -> None:
    training = Training(tmp_path / "home", CONFIG.model_copy(update={"params": {"hiden": [16]}}))
    assert training.start(2).wait(120) == 1
    assert "train.params: they do not fit MLP" in training.said()
