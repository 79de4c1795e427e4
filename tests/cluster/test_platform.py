"""The deployed platform: a life cycle in pods, and what becomes of it when pods, nodes and servers go away."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.platform import NAMESPACE, kubectl, objects, until
from tests.support import free_port

if TYPE_CHECKING:
    from tests.cluster.platform import Platform, Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")
GPU_POOL = "karpenter.sh/nodepool=gpu"


def gpu_claims() -> list[dict[str, Any]]:
    """NodeClaims of the GPU pool."""
    return objects("nodeclaims", "-l", GPU_POOL)


def step(model: str, stage: str) -> str:
    return f"{model}__{stage}"


def running_pod(platform: Platform, run_id: str, name: str) -> dict[str, Any] | None:
    """The step's pod once its process runs."""
    pod = platform.step_pod(run_id, name)
    return pod if pod is not None and pod["status"]["phase"] == "Running" else None


def told(run: Run, text: str) -> bool:
    return text in run.text


@pytest.fixture(scope="module")
def life_cycle(platform: Platform) -> tuple[Run, dict[str, dict[str, Any]]]:
    """One run of fraud_detection through Dagster's API, and the pods its steps ran in."""
    run_id = platform.launch(job="fraud_detection")
    run = platform.finished(run_id, timeout_s=900)
    assert run.status == "SUCCESS", run.text
    pods = platform.pods(f"dagster/run-id={run_id},app.kubernetes.io/component=step_worker")
    return run, {pod["metadata"]["labels"]["dagster/op"]: pod for pod in pods}


def test_every_stage_runs_in_a_pod_of_its_own_and_training_on_a_gpu_node(
    life_cycle: tuple[Run, dict[str, dict[str, Any]]],
) -> None:
    run, pods = life_cycle
    assert set(pods) == {step("fraud_detection", stage) for stage in STAGES}
    nodes = {name: pod["spec"]["nodeName"] for name, pod in pods.items()}
    gpu_node = nodes.pop(step("fraud_detection", "trained_model"))
    assert gpu_node not in nodes.values(), "a CPU stage ran on the GPU node"
    training = pods[step("fraud_detection", "trained_model")]
    assert training["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    # The simulated cloud needs 2 s, so the executor may first look when the node is there
    launching, launched = "gpu node (1 GPU): Karpenter is launching g5.xlarge spot", f"{gpu_node} (g5.xlarge spot)"
    assert launching in run.text or launched in run.text


@pytest.mark.usefixtures("life_cycle")
def test_the_inference_service_answers_over_its_service() -> None:
    port = free_port()
    command = ["kubectl", "-n", NAMESPACE, "port-forward", "service/fraud-detection-predictor", f"{port}:80"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forward:
        try:
            row = {"amount": 950.0, "merchant_id": "m001", "user_age": 80, "transaction_hour": 3}
            body = json.dumps({"instances": [row, row | {"amount": 20.0, "user_age": 40, "transaction_hour": 13}]})

            def answer() -> Any:
                url = f"http://127.0.0.1:{port}/v1/models/fraud_detection:predict"
                try:
                    with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=5) as reply:
                        return json.load(reply)
                except OSError:
                    return None

            found = until("a prediction", answer, 60)["predictions"]
        finally:
            forward.kill()
    risky, harmless = (item["probabilities"][1] if isinstance(item, dict) else item for item in found)
    assert 0 <= harmless < risky <= 1


@pytest.mark.usefixtures("life_cycle")
def test_the_gpu_node_is_given_back() -> None:
    until("the GPU node is consolidated away", lambda: not gpu_claims(), 240, every_s=3)


def weights(model: str) -> str:
    """Digest of the weights of a model, as its snapshot's manifest in the lake has it."""
    script = (
        "import json,sys,boto3;c=boto3.client('s3');"
        "keys=[o['Key'] for o in c.list_objects_v2(Bucket='mlops',Prefix=sys.argv[1])['Contents'] "
        "if o['Key'].endswith('manifest.json')];"
        "files=json.loads(c.get_object(Bucket='mlops',Key=keys[-1])['Body'].read())['files'];"
        "print(len(keys),[f['sha256'] for f in files if f['name']=='weights.safetensors'][0])"
    )
    command = ["exec", "-n", NAMESPACE, "deploy/dagster-code", "--", "python", "-c", script]
    count, digest = kubectl(*command, f"lake/{model}/trained_model/").split()
    assert count == "1", "one version of the weights"
    return digest


def mlflow_runs(run_id: str) -> list[str]:
    """The states of the MLflow runs that belong to a Dagster run."""
    script = (
        "import sys,mlflow;c=mlflow.MlflowClient();"
        "ids=[e.experiment_id for e in c.search_experiments()];"
        "print(*[r.info.status for r in c.search_runs(ids,f\"tags.dagster_run_id='{sys.argv[1]}'\")])"
    )
    return kubectl("exec", "-n", NAMESPACE, "deploy/dagster-code", "--", "python", "-c", script, run_id).split()


def compute_logs(run_id: str) -> str:
    """What the steps of a run wrote, as far as it was uploaded."""
    script = (
        "import sys,boto3;c=boto3.client('s3');"
        "keys=[o['Key'] for p in c.get_paginator('list_objects_v2').paginate(Bucket='mlops',Prefix='compute-logs/') "
        "for o in p.get('Contents',[]) if sys.argv[1] in o['Key']];"
        "[print(c.get_object(Bucket='mlops',Key=k)['Body'].read().decode()) for k in keys]"
    )
    return kubectl("exec", "-n", NAMESPACE, "deploy/dagster-code", "--", "python", "-c", script, run_id)


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
        inputs = platform.launch(*(f"{model}/{stage}" for stage in STAGES[:3]))
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
    assert told(run, "resuming at epoch")
    assert told(run, "was disrupted") or told(run, "the pod was deleted")
    assert told(run, "ended by SIGKILL")
    assert weights("disturbed") == weights("undisturbed")
    assert mlflow_runs(run_id) == ["FINISHED"]
    assert max(claims) <= 2, "one node that goes and one that comes, however often pods die"
    assert "rows/s" in compute_logs(run_id), "what a killed step wrote can still be read"
    last = platform.step_pod(run_id, name)
    assert last is not None
    assert last["spec"]["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}, "the last try is on demand"


def test_a_run_whose_pod_is_killed_goes_on(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    pod = until("the run pod", lambda: (platform.pods(f"dagster/run-id={run_id}") or [None])[0], 60)
    until("the first step", lambda: platform.step_pod(run_id, step("iris", "prepared_data")), 180)
    kubectl("delete", "pod", "-n", NAMESPACE, pod["metadata"]["name"], "--grace-period=1", "--wait=false")
    run = platform.finished(run_id, 600)
    assert run.status == "SUCCESS", run.text
    assert told(run, "Resuming run")


def test_a_run_outlives_restarts_of_postgresql_and_mlflow(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    until("the features", lambda: platform.step_pod(run_id, step("iris", "features")), 180)
    kubectl("delete", "pod", "-n", NAMESPACE, "postgres-0", "--wait=false")
    kubectl("rollout", "restart", "-n", NAMESPACE, "deployment/mlflow")
    run = platform.finished(run_id, 600)
    assert run.status == "SUCCESS", run.text


OVERRIDE = "execution: {config: {step_k8s_config: {container_config: %s}}}"


@pytest.mark.parametrize(
    ("config", "cause", "remedy"),
    [
        ("{image: 'localhost/not-there:1'}", "localhost/not-there:1", "Push the image"),
        ("{env_from: [{secret_ref: {name: not-there}}]}", "not-there", "Create the Secret"),
    ],
)
def test_a_pod_that_cannot_start_fails_with_cause_and_remedy(
    platform: Platform, config: str, cause: str, remedy: str
) -> None:
    run = platform.finished(platform.launch("iris/raw_data", config=OVERRIDE % config), 180)
    assert run.status == "FAILURE"
    assert told(run, cause)
    assert told(run, remedy)


def test_a_step_that_dies_tells_where_how_and_its_last_lines(platform: Platform) -> None:
    crash = "{command: [sh, -c, 'echo the last words; exit 3']}"
    run = platform.finished(platform.launch("iris/raw_data", config=OVERRIDE % crash), 180)
    assert run.status == "FAILURE"
    assert told(run, "the process ended with exit code 3 (code failure 1 of 1 that are retried)")
    [failure] = [event for event in run.events if event["__typename"] == "ExecutionStepFailureEvent"]
    entries = {entry["label"]: entry.get("text", "") for entry in failure["failureMetadata"]["metadataEntries"]}
    pod = entries["pod"]
    assert pod.startswith("dagster-step-")
    assert entries["node"] in {node["metadata"]["name"] for node in objects("nodes")}
    assert entries["exit code"] == "3"
    assert "Started" in entries["events"]
    assert "the last words" in entries["last log lines"]


@pytest.mark.parametrize(
    ("model", "cause"),
    [("no_such_family", "a gpu node (1 GPU) of family p99"), ("too_many_gpus", "a gpu node (16 GPUs)")],
)
def test_a_node_that_cannot_be_had_fails_with_cause_and_remedy(platform: Platform, model: str, cause: str) -> None:
    inputs = platform.finished(platform.launch(*(f"{model}/{stage}" for stage in STAGES[:3])))
    assert inputs.status == "SUCCESS", inputs.text
    before = {claim["metadata"]["name"] for claim in gpu_claims()}
    run = platform.finished(platform.launch(f"{model}/trained_model"), 180)
    assert run.status == "FAILURE"
    assert told(run, f"no node type offers {cause}")
    assert told(run, "Ask for another train.compute.gpu or instance_family")
    assert {claim["metadata"]["name"] for claim in gpu_claims()} <= before, "a node was bought that does not help"


def test_a_full_quota_is_told_while_the_step_waits(platform: Platform) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-gpus", "namespace": NAMESPACE},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(quota))
    try:
        run_id = platform.launch("too_many_gpus/trained_model")
        until("the quota is told", lambda: told(platform.run(run_id), "waiting for quota"), 120)
        assert told(platform.run(run_id), "raise the ResourceQuota")
    finally:
        kubectl("delete", "resourcequota", "no-gpus", "-n", NAMESPACE)
    platform.terminate(run_id)
    assert platform.finished(run_id, 120).status == "CANCELED"
    selector = f"dagster/run-id={run_id}"
    until("nothing of the cancelled run is left", lambda: not platform.pods(selector), 90)
    until("the slot is free", lambda: not platform.slots("gpu"), 60)
