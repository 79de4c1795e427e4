"""What a training on a GPU promises. Each test has a variant for the CPU, which `make test` runs on any machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.ml.training.learner import LearningCurve
from tests.gpu.training import CONFIG, PROJECT, Device, Order, each_of, refused, start, train, weights, write_features

PLATFORM = {"dagster", "mlflow", "duckdb", "pandas", "pyarrow", "sklearn", "onnx", "onnxruntime", "boto3", "kubernetes"}


@pytest.fixture(
    scope="module", params=[pytest.param("cpu", marks=pytest.mark.faults), pytest.param("cuda", marks=pytest.mark.gpu)]
)
def device(request: pytest.FixtureRequest) -> Device:
    """Where a training runs."""
    if request.param == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch sees no GPU on this machine")
    return request.param


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of 1,000 rows."""
    return write_features(tmp_path_factory.mktemp("features"), 1_000, 5)


@pytest.fixture
def order(features: Path, tmp_path: Path) -> Order:
    """A training of these rows."""
    return Order(features=str(features), out=str(tmp_path / "out"))


@pytest.fixture(scope="module")
def reference(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Order:
    """The same, done on the CPU."""
    done = Order(features=str(features), out=str(tmp_path_factory.mktemp("reference")))
    assert "on cpu" in train("cpu", done)
    return done


@pytest.fixture(scope="module")
def plain(device: Device, reference: Order, tmp_path_factory: pytest.TempPathFactory) -> Order:
    """The same, done on the device."""
    if device == "cpu":
        return reference
    done = reference.model_copy(update={"out": str(tmp_path_factory.mktemp("plain"))})
    assert f"on {device}" in train(device, done)
    return done


def other(order: Order, name: str, **changed: object) -> Order:
    """The order with another folder for its weights, and what else is changed."""
    return order.model_copy(update={"out": f"{order.out}-{name}", **changed})


def with_config(order: Order, **changed: object) -> Order:
    return order.model_copy(update={"config": CONFIG.model_copy(update=changed)})


def largest_difference(left: Order, right: Order) -> float:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


def content(order: Order) -> bytes:
    return (Path(order.out) / "weights.safetensors").read_bytes()


def test_what_trains_imports_no_library_but_those_that_are_named() -> None:
    program = (
        "import sys, tests.gpu.training, mlops_assets.ml.networks, mlops_assets.ml.training.network_learner\n"
        "import mlops_assets.ml.training.workers, resources.lake.folder_store, resources.lake.lake_checkpoints\n"
        f"print([name for name in {sorted(PLATFORM)} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == "[]"


def test_a_python_without_them_is_told_what_is_missing_in_one_line() -> None:
    command = [sys.executable, "-S", "-m", "tests.gpu"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    [line] = (found.stdout + found.stderr).splitlines()
    assert found.returncode == 2
    assert "lacks torch, numpy, safetensors, pydantic, pytest" in line


def test_a_training_gives_what_a_cpu_gives_within_rounding(plain: Order, reference: Order) -> None:
    assert largest_difference(plain, reference) < 1e-2
    losses = [[point.validation_loss for point in LearningCurve.read(Path(of.out)).points] for of in (plain, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_killed_and_resumed_the_weights_are_the_same_bit_for_bit(device: Device, order: Order, precision: str) -> None:
    config = CONFIG.model_copy(update={"precision": precision, "epochs": 6})
    config = config.model_copy(update={"params": {"hidden": [32, 16], "dropout": 0.2}})
    order = order.model_copy(update={"config": config, "chunk_rows": 256, "checkpoint_every_s": 0})
    train(device, whole := other(order, "whole", checkpoint_every_s=60.0))
    kills = 0
    for _ in range(2):
        before = set(Path(order.out).glob("checkpoints/checkpoint-*"))
        process = start(device, order)
        while process.poll() is None and len(set(Path(order.out).glob("checkpoints/checkpoint-*")) - before) < 2:
            time.sleep(0.002)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills >= 1
    assert "resuming at epoch" in train(device, order)
    assert content(order) == content(whole)


def test_mixed_precision_is_close_to_full_precision_and_another_version(
    device: Device, order: Order, plain: Order
) -> None:
    mixed = with_config(order, precision="bfloat16")
    train(device, mixed)
    assert content(plain) != content(mixed)
    assert largest_difference(plain, mixed) < 0.5
    assert plain.config.settings["precision"] != mixed.config.settings["precision"]


def test_out_of_memory_is_told_with_what_to_change(device: Device, tmp_path: Path) -> None:
    """The first layer's activations alone take 256 GiB."""
    features = write_features(tmp_path / "features", 1_200_000, 4)
    config = CONFIG.model_copy(update={"params": {"hidden": [65_536]}, "batch_size": 1_048_576, "epochs": 1})
    order = Order(features=str(features), out=str(tmp_path / "out"), config=config)
    if device == "cpu":
        order = order.model_copy(update={"memory_bytes": 24 << 30})
    said = refused(device, order)
    assert "lower train.batch_size, or make the network smaller" in said


def test_data_that_does_not_fit_the_gpu_streams_to_the_same_weights(device: Device, order: Order, plain: Order) -> None:
    train(device, streamed := order.model_copy(update={"on_device_bytes": 0}))
    assert content(plain) == content(streamed)


def test_several_processes_give_what_one_gives_within_rounding(device: Device, order: Order, plain: Order) -> None:
    """By NCCL where each has a GPU; two processes on one GPU, which NCCL refuses, speak by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    count = 2

    def begin(rank: int) -> subprocess.Popen[str]:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        return start(device, order, MASTER_ADDR="127.0.0.1", **{name: str(value) for name, value in place.items()})

    said = each_of(count, begin)
    assert f"by 2 workers on {device}" in said[0]
    train(device, order)  # takes the weights of the training that has finished
    assert largest_difference(plain, order) < 1e-2
