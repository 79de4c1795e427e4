"""The deployed platform: a life cycle in pods, up to a model that answers, and versions that are not let through."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.platform import NAMESPACE, STAGES, gpu_claims, kubectl, objects, override, step, until
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.platform import Platform, Run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
MODEL, SERVICE = "fraud_detection", "fraud-detection"
RISKY = {"amount": 950.0, "merchant_id": "m001", "user_age": 80, "transaction_hour": 3}
HARMLESS = RISKY | {"amount": 20.0, "user_age": 40, "transaction_hour": 13}


@pytest.fixture(scope="module")
def life_cycle(platform: Platform) -> tuple[Run, dict[str, dict[str, Any]]]:
    """One run of fraud_detection through Dagster's API while there is no GPU node, and the pods its steps ran in."""
    until("GPU nodes of other tests are gone", lambda: not gpu_claims(), 240, every_s=3)
    run_id = platform.launch(job=MODEL)
    run = platform.finished(run_id, timeout_s=900)
    assert run.status == "SUCCESS", run.text
    pods = platform.pods(f"dagster/run-id={run_id},app.kubernetes.io/component=step_worker")
    return run, {pod["metadata"]["labels"]["dagster/op"]: pod for pod in pods}


def test_every_stage_runs_in_a_pod_of_its_own_and_training_on_a_gpu_node(
    life_cycle: tuple[Run, dict[str, dict[str, Any]]],
) -> None:
    run, pods = life_cycle
    assert set(pods) == {step(MODEL, stage) for stage in STAGES}
    nodes = {name: pod["spec"]["nodeName"] for name, pod in pods.items()}
    gpu_node = nodes.pop(step(MODEL, "trained_model"))
    assert gpu_node not in nodes.values(), "a CPU stage ran on the GPU node"
    training = pods[step(MODEL, "trained_model")]
    assert training["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    # The simulated cloud needs 2 s, so the executor may first look when the node is there
    launching, launched = "gpu node (1 GPU): Karpenter is launching g5.xlarge spot", f"{gpu_node} (g5.xlarge spot)"
    assert launching in run.text or launched in run.text


@contextmanager
def endpoint() -> Iterator[Callable[[], list[float] | None]]:
    """The probabilities of fraud of two transactions, asked of the model's Service; None while it does not answer."""
    port = free_port()
    command = ["kubectl", "-n", NAMESPACE, "port-forward", f"service/{SERVICE}-predictor", f"{port}:80"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/{MODEL}:predict", json.dumps({"instances": [RISKY, HARMLESS]}).encode()
    )

    def ask() -> list[float] | None:
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                found = json.load(reply)["predictions"]
        except OSError:
            return None
        return [item["probabilities"][1] if isinstance(item, dict) else item for item in found]

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forward:
        try:
            yield ask
        finally:
            forward.kill()


@pytest.mark.usefixtures("life_cycle")
def test_the_inference_service_answers_over_its_service() -> None:
    with endpoint() as ask:
        risky, harmless = until("a prediction", ask, 60)
    assert 0 <= harmless < risky <= 1


@pytest.mark.usefixtures("life_cycle")
def test_the_gpu_node_is_given_back() -> None:
    until("the GPU node is consolidated away", lambda: not gpu_claims(), 240, every_s=3)


@contextmanager
def unchanged() -> Iterator[None]:
    """What happens inside leaves the service as it was: its specification, its answers, and no candidate."""

    def specification() -> dict[str, Any]:
        [service] = [s for s in objects("inferenceservices", "-n", NAMESPACE) if s["metadata"]["name"] == SERVICE]
        return service["spec"]

    with endpoint() as ask:
        before = specification(), until("a prediction", ask, 60)
        yield
        assert (specification(), until("a prediction", ask, 60)) == before
    names = {service["metadata"]["name"] for service in objects("inferenceservices", "-n", NAMESPACE)}
    assert f"{SERVICE}-candidate" not in names


@pytest.mark.usefixtures("life_cycle")
def test_a_predictor_that_does_not_come_up_leaves_the_old_one(platform: Platform) -> None:
    variable = "{name: MLOPS_PREDICTOR_IMAGE, value: 'localhost/no-predictor:1'}"
    config = override(f"{{container_config: {{env: [{variable}]}}}}")
    with unchanged():
        run = platform.finished(platform.launch(f"{MODEL}/deployment", config=config), 300)
    assert run.status == "FAILURE"
    assert "was not rolled out, version 1 keeps answering" in run.text
    assert "the image localhost/no-predictor:1 cannot be pulled" in run.text
    assert "Push the image, or correct its name" in run.text


ANOTHER_ANSWER = """
import json, tempfile
from pathlib import Path
from mlops_assets.definitions import defs
from resources.environment import Environment

serving = defs.resources["serving"]
lake = Environment.read().lake()
served = serving.current("{model}")
draft = Path(tempfile.mkdtemp())
for name in ("model.onnx", "model.json"):
    place = f"served/{model}/{{served.folder}}/{{name}}"
    (draft / name).write_bytes(lake.store.read(place))
description = json.loads((draft / "model.json").read_text())
rows = description["golden"]["outputs"]["probabilities"]
description["golden"]["outputs"]["probabilities"] = [row[::-1] for row in rows]
(draft / "model.json").write_text(json.dumps(description))
try:
    serving.deploy("{model}", draft, served.sha256, 2)
except Exception as error:
    print(error)
"""


def test_a_version_that_answers_otherwise_than_offline_is_not_let_through(
    life_cycle: tuple[Run, dict[str, dict[str, Any]]],
) -> None:
    _, pods = life_cycle
    spec = pods[step(MODEL, "deployment")]["spec"]
    [container] = spec["containers"]
    container["command"], container["args"] = ["python", "-c", ANOTHER_ANSWER.format(model=MODEL)], []
    # Admission gives it a token of its own
    spec["volumes"] = [volume for volume in spec["volumes"] if not volume["name"].startswith("kube-api-access")]
    mounts = container["volumeMounts"]
    container["volumeMounts"] = [mount for mount in mounts if not mount["name"].startswith("kube-api-access")]
    del spec["nodeName"]
    metadata = {"name": "another-answer", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    with unchanged():
        kubectl("create", "-f", "-", stdin=json.dumps(pod))
        try:
            kubectl(
                "wait",
                "-n",
                NAMESPACE,
                "pod/another-answer",
                "--for=jsonpath={.status.phase}=Succeeded",
                "--timeout=240s",
            )
            said = kubectl("logs", "-n", NAMESPACE, "another-answer")
        finally:
            kubectl("delete", "pod", "-n", NAMESPACE, "another-answer", "--wait=false")
    assert "Version 2 of fraud_detection was not rolled out, version 1 keeps answering" in said
    assert "golden rows" in said
