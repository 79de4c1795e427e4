"""What becomes of runs when pods, nodes and servers go away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.platform import INPUTS, NAMESPACE, gpu_claims, kubectl, objects, python, step, until

if TYPE_CHECKING:
    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]


def running_pod(platform: Platform, run_id: str, name: str) -> dict[str, Any] | None:
    """The step's pod once its process runs."""
    pod = platform.step_pod(run_id, name)
    return pod if pod is not None and pod["status"]["phase"] == "Running" else None


def weights(model: str) -> str:
    """Digest of the weights of a model, as its snapshot's manifest in the lake has it."""
    script = (
        "import json,sys,boto3;c=boto3.client('s3');"
        "keys=[o['Key'] for o in c.list_objects_v2(Bucket='mlops',Prefix=sys.argv[1])['Contents'] "
        "if o['Key'].endswith('manifest.json')];"
        "files=json.loads(c.get_object(Bucket='mlops',Key=keys[-1])['Body'].read())['files'];"
        "print(len(keys),[f['sha256'] for f in files if f['name']=='weights.safetensors'][0])"
    )
    count, digest = python(script, f"lake/{model}/trained_model/").split()
    assert count == "1", "one version of the weights"
    return digest


def mlflow_runs(run_id: str) -> list[str]:
    """The states of the MLflow runs that belong to a Dagster run."""
    script = (
        "import sys,mlflow;c=mlflow.MlflowClient();"
        "ids=[e.experiment_id for e in c.search_experiments()];"
        "print(*[r.info.status for r in c.search_runs(ids,f\"tags.dagster_run_id='{sys.argv[1]}'\")])"
    )
    return python(script, run_id).split()


def compute_logs(run_id: str) -> str:
    """What the steps of a run wrote, as far as it was uploaded."""
    script = (
        "import sys,boto3;c=boto3.client('s3');"
        "keys=[o['Key'] for p in c.get_paginator('list_objects_v2').paginate(Bucket='mlops',Prefix='compute-logs/') "
        "for o in p.get('Contents',[]) if sys.argv[1] in o['Key']];"
        "[print(c.get_object(Bucket='mlops',Key=k)['Body'].read().decode()) for k in keys]"
    )
    return python(script, run_id)


def kill_process(pod: dict[str, Any]) -> None:
    """kill -9 of the step's process."""
    script = (
        "import os,signal,glob;"
        "[os.kill(int(p.split('/')[2]),9) for p in glob.glob('/proc/[0-9]*/cmdline') "
        "if b'execute_step' in open(p,'rb').read() and p!='/proc/1/cmdline']"
    )
    # The container ends, and with it the command that ended it
    kubectl("exec", "-n", NAMESPACE, pod["metadata"]["name"], "--", "python3", "-c", script, check=False)


def delete_node(pod: dict[str, Any]) -> None:
    """Take the pod's node away as a spot interruption does."""
    [claim] = [c for c in gpu_claims() if c["status"].get("nodeName") == pod["spec"]["nodeName"]]
    kubectl("delete", "nodeclaim", claim["metadata"]["name"], "--wait=false")


INTERRUPTIONS = 10  # as many as the model's YAML allows


def test_a_training_that_is_interrupted_ten_times_ends_with_the_same_weights(platform: Platform) -> None:
    for model in ("undisturbed", "disturbed"):
        inputs = platform.launch(*(f"{model}/{stage}" for stage in INPUTS))
        assert platform.finished(inputs).status == "SUCCESS"
    calm = platform.finished(platform.launch("undisturbed/trained_model"), 900)
    assert calm.status == "SUCCESS", calm.text

    name = step("disturbed", "trained_model")
    run_id = platform.launch("disturbed/trained_model")
    seen: set[str] = set()
    ways = []
    claims = [0]
    while len(ways) < INTERRUPTIONS:

        def next_pod() -> dict[str, Any] | None:
            assert platform.run(run_id).status not in ("SUCCESS", "FAILURE"), platform.run(run_id).text
            claims.append(len(gpu_claims()))
            pod = running_pod(platform, run_id, name)
            return pod if pod is not None and pod["metadata"]["name"] not in seen else None

        pod = until("a running training pod", next_pod, 180)
        seen.add(pod["metadata"]["name"])
        log = ["logs", "-n", NAMESPACE, pod["metadata"]["name"]]
        until("the training goes on", lambda log=log: "rows/s" in kubectl(*log, check=False), 120)
        way = delete_node if len(ways) % 2 == 0 else kill_process
        if way is kill_process and len(ways) == 1:
            until("lines of the step in S3", lambda: "rows/s" in compute_logs(run_id), 60)
        way(pod)
        ways.append(way.__name__)
    run = platform.finished(run_id, 900)
    assert run.status == "SUCCESS", run.text
    assert len([e for e in run.events if e["__typename"] == "ExecutionStepUpForRetryEvent"]) == INTERRUPTIONS
    assert "resuming at epoch" in run.text
    assert "was disrupted" in run.text or "the pod was deleted" in run.text
    assert "ended by SIGKILL" in run.text
    assert weights("disturbed") == weights("undisturbed")
    assert mlflow_runs(run_id) == ["FINISHED"]
    assert max(claims) <= 2, "one node that goes and one that comes, however often pods die"
    assert "rows/s" in compute_logs(run_id), "what a killed step wrote can still be read"
    last = platform.step_pod(run_id, name)
    assert last is not None
    assert last["spec"]["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}, "the last try is on demand"
    until("the slot of the pool is free", lambda: not platform.slots("gpu"), 60)


def test_a_run_whose_pod_is_killed_goes_on(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    pod = until("the run pod", lambda: (platform.pods(f"dagster/run-id={run_id}") or [None])[0], 60)
    until("the first step", lambda: platform.step_pod(run_id, step("iris", "prepared_data")), 180)
    kubectl("delete", "pod", "-n", NAMESPACE, pod["metadata"]["name"], "--grace-period=1", "--wait=false")
    run = platform.finished(run_id, 600)
    assert run.status == "SUCCESS", run.text
    assert "Resuming run" in run.text


def test_a_run_cancelled_while_it_starts_leaves_nothing_that_goes_on(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    selector = f"dagster/run-id={run_id}"
    until("the run pod", lambda: platform.pods(selector), 60, every_s=0.1)
    platform.terminate(run_id, "MARK_AS_CANCELED_IMMEDIATELY")

    def over() -> bool:
        return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in platform.pods(selector))

    until("no pod goes on", over, 90)
    assert platform.run(run_id).status == "CANCELED"
    assert not objects("jobs", "-n", NAMESPACE, "-l", f"{selector},app.kubernetes.io/component=step_worker")


def test_a_run_outlives_restarts_of_postgresql_mlflow_and_the_daemon(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    until("the features", lambda: platform.step_pod(run_id, step("iris", "features")), 180)
    daemon = ("-l", "app.kubernetes.io/name=dagster-daemon", "--grace-period=0", "--force")
    kubectl("delete", "pod", "-n", NAMESPACE, *daemon)
    kubectl("delete", "pod", "-n", NAMESPACE, "postgres-0", "--wait=false")
    kubectl("rollout", "restart", "-n", NAMESPACE, "deployment/mlflow")
    run = platform.finished(run_id, 600)
    assert run.status == "SUCCESS", run.text
