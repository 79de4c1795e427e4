"""Training by several pods: a PyTorchJob of one master and two workers, on GPU nodes, that loses some of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.platform import INPUTS, NAMESPACE, kubectl, objects, python, until

if TYPE_CHECKING:
    from tests.cluster.platform import Platform, Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
MODEL, TWIN = "together", "alone"
WORKERS = "app.kubernetes.io/component=training_worker"


def workers(platform: Platform, run_id: str) -> list[dict[str, Any]]:
    """The pods of the run's PyTorchJob that are not being deleted."""
    found = platform.pods(f"dagster/run-id={run_id},{WORKERS}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def training(platform: Platform, run_id: str, seen: set[str]) -> list[dict[str, Any]]:
    """Three pods that were not seen before, once they train."""

    def found() -> list[dict[str, Any]] | None:
        run = platform.run(run_id)
        assert run.status not in ("SUCCESS", "FAILURE"), run.text
        pods = [pod for pod in workers(platform, run_id) if pod["metadata"]["uid"] not in seen]
        return pods if len(pods) == 3 and all(pod["status"].get("phase") == "Running" for pod in pods) else None

    pods = until("three workers that run", found, 240)
    seen |= {pod["metadata"]["uid"] for pod in pods}
    [master] = [pod for pod in pods if pod["metadata"]["name"].endswith("master-0")]
    log = ["logs", "-n", NAMESPACE, master["metadata"]["name"]]
    until("a checkpoint", checkpoints, 240)
    until("the training goes on", lambda: kubectl(*log, check=False).strip(), 120)
    return pods


def lake(script: str) -> str:
    """What a script prints that has the bucket's client as `c`."""
    return python("import boto3,json;c=boto3.client('s3');" + script)


def checkpoints() -> int:
    """How many checkpoints lie in the lake."""
    listed = f"c.list_objects_v2(Bucket='mlops',Prefix='lake/{MODEL}/trained_model/').get('Contents',[])"
    return int(lake(f"print(sum('checkpoint-' in o['Key'] for o in {listed}))"))


def curve(model: str) -> list[dict[str, float]]:
    """The learning curve in the lake."""
    listed = f"c.list_objects_v2(Bucket='mlops',Prefix='lake/{model}/trained_model/')['Contents']"
    key = f"[o['Key'] for o in {listed} if o['Key'].endswith('curve.json')][0]"
    return json.loads(lake(f"print(c.get_object(Bucket='mlops',Key={key})['Body'].read().decode())"))


def metric(model: str) -> float:
    """The model's area under the ROC curve on held-out rows, as MLflow has it."""
    script = (
        "import sys,mlflow;c=mlflow.MlflowClient();"
        "e=c.get_experiment_by_name(sys.argv[1]);"
        "print([r.data.metrics[k] for r in c.search_runs([e.experiment_id]) for k in r.data.metrics "
        "if k.endswith('roc_auc')][0])"
    )
    return float(python(script, model))


def training_jobs(run_id: str) -> list[dict[str, Any]]:
    return objects("pytorchjobs", "-n", NAMESPACE, "-l", f"dagster/run-id={run_id}")


def kill_worker(pod: dict[str, Any]) -> None:
    """kill -9 of the worker below torchrun's agent."""
    script = (
        "import os,glob;"
        "[os.kill(int(f.split('/')[2]),9) for f in glob.glob('/proc/[0-9]*/environ') "
        "if b'LOCAL_RANK=' in open(f,'rb').read()]"
    )
    kubectl("exec", "-n", NAMESPACE, pod["metadata"]["name"], "-c", "pytorch", "--", "python3", "-c", script)


def made(platform: Platform, *keys: str) -> Run:
    run = platform.finished(platform.launch(*keys), 900)
    assert run.status == "SUCCESS", run.text
    return run


def test_three_workers_that_are_interrupted_make_the_model_of_one_process(platform: Platform) -> None:
    made(platform, *(f"{TWIN}/{stage}" for stage in (*INPUTS, "trained_model")))
    made(platform, *(f"{MODEL}/{stage}" for stage in INPUTS))
    run_id = platform.launch(f"{MODEL}/trained_model")
    seen: set[str] = set()

    pods = training(platform, run_id, seen)
    nodes = {pod["spec"]["nodeName"] for pod in pods}
    of_pool = {node["metadata"]["name"] for node in objects("nodes", "-l", "karpenter.sh/nodepool=gpu")}
    assert nodes <= of_pool, "workers train on GPU nodes"
    assert all(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1" for pod in pods)
    assert not any(pod["spec"].get("automountServiceAccountToken", True) for pod in pods)
    victim = next(pod for pod in pods if pod["metadata"]["name"].endswith("worker-1"))
    kill_worker(victim)

    pods = training(platform, run_id, seen)
    victim = next(pod for pod in pods if pod["metadata"]["name"].endswith("worker-0"))
    kubectl("delete", "pod", "-n", NAMESPACE, victim["metadata"]["name"], "--wait=false")

    run = platform.finished(run_id, 900)
    assert run.status == "SUCCESS", run.text
    assert "PyTorchJob" in run.text
    assert "trains with 3 workers" in run.text
    assert "epoch 1: loss" in run.text, "progress streams into the run"
    assert "ended by SIGKILL" in run.text
    assert "the pod was deleted" in run.text
    assert len([e for e in run.events if e["__typename"] == "ExecutionStepUpForRetryEvent"]) == 2
    assert "resuming at epoch" in run.text
    assert not training_jobs(run_id)
    assert not platform.pods(f"dagster/run-id={run_id},{WORKERS}")

    best, twin = (min(curve(model), key=lambda point: point["validation_loss"]) for model in (MODEL, TWIN))
    assert best["validation_loss"] == pytest.approx(twin["validation_loss"], rel=0.05)
    made(platform, f"{MODEL}/evaluation", f"{TWIN}/evaluation")  # both pass fraud_detection's gate
    first, second = metric(MODEL), metric(TWIN)
    assert first == pytest.approx(second, abs=0.002)


def test_a_cancelled_run_leaves_no_training_job(platform: Platform) -> None:
    made(platform, *(f"{MODEL}/{stage}" for stage in INPUTS))
    # Or the stage would be skipped
    listed = f"c.list_objects_v2(Bucket='mlops',Prefix='lake/{MODEL}/trained_model/').get('Contents',[])"
    lake(f"[c.delete_object(Bucket='mlops',Key=o['Key']) for o in {listed}]")
    run_id = platform.launch(f"{MODEL}/trained_model")
    until("workers", lambda: len(workers(platform, run_id)) == 3, 180)
    platform.terminate(run_id)
    assert platform.finished(run_id, 180).status == "CANCELED"
    until("the PyTorchJob has gone", lambda: not training_jobs(run_id), 90)
    until("its pods have gone", lambda: not platform.pods(f"dagster/run-id={run_id}"), 90)
    until("the slot is free", lambda: not platform.slots("gpu"), 60)
