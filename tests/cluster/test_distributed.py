"""Training by several pods: a PyTorchJob of one master and two workers, on GPU nodes, that loses some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.kubectl import NAMESPACE, kubectl, names, objects, run_script
from tests.cluster.platform import INPUTS, of_run
from tests.cluster.results import mlflow_runs, training_file, training_keys
from tests.cluster.waiting import POD_START_S, SOON_S, wait_until

if TYPE_CHECKING:
    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
MODEL, TWIN = "together", "alone"


def named(pods: list[dict[str, Any]], ending: str) -> dict[str, Any]:
    """The pod whose name ends so."""
    [pod] = [pod for pod in pods if pod["metadata"]["name"].endswith(ending)]
    return pod


def next_training(platform: Platform, run_id: str, seen: set[str]) -> list[dict[str, Any]]:
    """Three pods that are not among those seen, and are from now on, once they train."""
    pods = platform.workers_run(run_id, 3, seen)
    seen |= {pod["metadata"]["uid"] for pod in pods}
    wait_until(lambda: any("checkpoint-" in key for key in training_keys(MODEL)), POD_START_S, "a checkpoint is there")
    platform.pod_writes(named(pods, "master-0"))
    return pods


def lowest_validation_loss(model: str) -> float:
    """Of all epochs of the one training that is stored."""
    return min(point["validation_loss"] for point in training_file(model, "curve.json")["points"])


def roc_auc(model: str) -> float:
    """The model's area under the ROC curve on the test set, as MLflow has it."""
    metrics = [run["metrics"] for run in mlflow_runs() if run["experiment"] == model]
    return next(value for logged in metrics for name, value in logged.items() if name.endswith("roc_auc"))


def training_jobs(run_id: str) -> list[dict[str, Any]]:
    """The run's PyTorchJobs."""
    return objects("pytorchjobs", "-n", NAMESPACE, "-l", of_run(run_id))


def test_three_workers_that_are_interrupted_make_the_model_of_one_process(platform: Platform) -> None:
    platform.materialize(TWIN, *INPUTS, "trained_model")
    platform.materialize(MODEL, *INPUTS)
    run_id = platform.launch(f"{MODEL}/trained_model")
    seen: set[str] = set()

    pods = next_training(platform, run_id, seen)
    nodes = {pod["spec"]["nodeName"] for pod in pods}
    assert nodes <= names(objects("nodes", "-l", "karpenter.sh/nodepool=gpu")), "workers train on GPU nodes"
    assert all(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1" for pod in pods)
    assert not any(pod["spec"].get("automountServiceAccountToken", True) for pod in pods)
    # The worker below torchrun's agent
    run_script("kill_processes", "environ", "LOCAL_RANK=", pod=named(pods, "worker-1")["metadata"]["name"])

    pods = next_training(platform, run_id, seen)
    kubectl("delete", "pod", "-n", NAMESPACE, named(pods, "worker-0")["metadata"]["name"], "--wait=false")

    run = platform.run_succeeds(run_id)
    assert "PyTorchJob" in run.text
    assert "trains with 3 workers" in run.text
    assert "epoch 1: loss" in run.text, "progress streams into the run"
    assert "ended by SIGKILL" in run.text
    assert "the pod was deleted" in run.text
    assert len(run.events_of("ExecutionStepUpForRetryEvent")) == 2
    assert "resuming at epoch" in run.text
    assert not training_jobs(run_id)
    assert not platform.pods(of_run(run_id, "training_worker"))

    assert lowest_validation_loss(MODEL) == pytest.approx(lowest_validation_loss(TWIN), rel=0.05)
    platform.run_succeeds(platform.launch(f"{MODEL}/evaluation", f"{TWIN}/evaluation"))  # both pass their gates
    assert roc_auc(MODEL) == pytest.approx(roc_auc(TWIN), abs=0.002)


def test_a_cancelled_run_leaves_no_training_job(platform: Platform) -> None:
    platform.materialize(MODEL, *INPUTS)
    # Or the stage would be skipped
    run_script("delete_keys", *training_keys(MODEL))
    run_id = platform.launch(f"{MODEL}/trained_model")
    workers = of_run(run_id, "training_worker")
    wait_until(lambda: len(platform.live_pods(workers)) == 3, POD_START_S, "three workers are there")
    platform.terminate(run_id)
    platform.run_is_cancelled(run_id)
    wait_until(lambda: not training_jobs(run_id), SOON_S, "the PyTorchJob has gone")
    platform.no_pod_is_left(run_id)
    platform.pool_is_free("gpu")
