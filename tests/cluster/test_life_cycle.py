"""The deployed platform: a life cycle in pods, up to a model that answers, and versions that are not let through."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from mlops_assets.serving.grpc_messages import SERVICE as SERVICE_NAME
from mlops_assets.serving.grpc_messages import pb
from tests.cluster.kubectl import NAMESPACE, create, forwarded, kubectl, names, objects
from tests.cluster.live_model import as_deployment_step, calling, roll_out
from tests.cluster.nodes import gpu_nodes_are_gone
from tests.cluster.platform import INPUTS, STAGES, of_run, override, step
from tests.cluster.results import keys
from tests.cluster.waiting import POD_START_S, SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.cluster.dagster_api import Run
    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
MODEL, SERVICE = "fraud_detection", "fraud-detection"
PREDICTOR = f"service/{SERVICE}-predictor"
RISKY = {"amount": 950.0, "merchant_id": "m001", "user_age": 80, "transaction_hour": 3}
HARMLESS = RISKY | {"amount": 20.0, "user_age": 40, "transaction_hour": 13}


@pytest.fixture(scope="module")
def life_cycle(platform: Platform) -> tuple[Run, dict[str, dict[str, Any]]]:
    """One run of fraud_detection through Dagster's API while there is no GPU node, and the pods its steps ran in."""
    gpu_nodes_are_gone()
    run_id = platform.launch(job=MODEL)
    run = platform.run_succeeds(run_id)
    pods = platform.pods(of_run(run_id, "step_worker"))
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


@pytest.mark.long
def test_torch_is_in_the_pod_of_a_networks_training_alone(
    platform: Platform, life_cycle: tuple[Run, dict[str, dict[str, Any]]]
) -> None:
    _, pods = life_cycle
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in pods.items()}
    assert "/mlops-trainer:" in images.pop(step(MODEL, "trained_model"))
    assert [image for image in images.values() if "/mlops-platform:" not in image] == []
    looks_for_torch = ("python", "-c", "import importlib.util; print(importlib.util.find_spec('torch'))")
    assert kubectl("exec", "-n", NAMESPACE, "deployment/dagster-code", "--", *looks_for_torch).strip() == "None"
    run_id = platform.launch(*(f"iris/{stage}" for stage in (*INPUTS, "trained_model")))
    platform.run_succeeds(run_id)
    estimator = platform.step_pod(run_id, step("iris", "trained_model"))
    assert estimator is not None
    assert "/mlops-platform:" in estimator["spec"]["containers"][0]["image"]


@contextmanager
def endpoint() -> Generator[Callable[[], list[float]]]:
    """Predicts with the model's Service, once it answers: the probabilities of fraud of RISKY and HARMLESS."""
    with forwarded(PREDICTOR, 80) as port:
        yield predicting(port)


def predicting(port: int) -> Callable[[], list[float]]:
    """Predicts with the server behind a port."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/{MODEL}:predict", json.dumps({"instances": [RISKY, HARMLESS]}).encode()
    )

    def answer() -> list[Any]:
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return json.load(response)["predictions"]
        except OSError:
            return []

    def predict() -> list[float]:
        predictions = wait_until(answer, SOON_S, "the model's Service answers")
        return [item["probabilities"][1] if isinstance(item, dict) else item for item in predictions]

    return predict


@pytest.mark.usefixtures("life_cycle")
def test_the_inference_service_answers_over_its_service() -> None:
    with endpoint() as predict:
        risky, harmless = predict()
    assert 0 <= harmless < risky <= 1


def asked_over_grpc(port: int) -> Any:
    """The answer to RISKY, or nothing while nobody answers."""
    request = pb.ModelInferRequest(model_name=MODEL, id="over-grpc")
    for name, value in RISKY.items():
        text = isinstance(value, str)
        tensor = request.inputs.add(name=name, shape=[1, 1], datatype="BYTES" if text else "FP32")
        if isinstance(value, str):
            tensor.contents.bytes_contents.append(value.encode())
        else:
            tensor.contents.fp32_contents.append(value)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.unary_unary(
            f"/{SERVICE_NAME}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        try:
            return ask(request, timeout=10)
        except grpc.RpcError:
            return None


@pytest.mark.usefixtures("life_cycle")
def test_a_predictor_answers_over_grpc_and_keeps_what_it_answered_in_the_lake() -> None:
    with forwarded(PREDICTOR, 8081) as port:
        answer = wait_until(lambda: asked_over_grpc(port), SOON_S, "the model's Service answers over gRPC")
    assert (answer.id, answer.model_name) == ("over-grpc", MODEL)
    wait_until(lambda: keys(f"lake/inference/{MODEL}/"), POD_START_S, "the inference log is in the lake")


@pytest.mark.usefixtures("life_cycle")
def test_nobody_takes_a_model_from_a_predictor() -> None:
    with forwarded(PREDICTOR, 80) as port:
        predict = predicting(port)
        before = predict()
        for path in ("unload", "load"):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/repository/models/{MODEL}/{path}", b"{}")
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            assert caught.value.code == 404
        assert predict() == before


@pytest.mark.usefixtures("life_cycle")
def test_the_gpu_node_is_given_back() -> None:
    gpu_nodes_are_gone()


@contextmanager
def unchanged() -> Generator[None]:
    """What happens inside leaves the service as it was: its specification, its answers, and no candidate."""

    def specification() -> dict[str, Any]:
        [service] = [s for s in objects("inferenceservices", "-n", NAMESPACE) if s["metadata"]["name"] == SERVICE]
        return service["spec"]

    with endpoint() as predict:
        before = specification(), predict()
        yield
        assert (specification(), predict()) == before
    assert f"{SERVICE}-candidate" not in names(objects("inferenceservices", "-n", NAMESPACE))


@pytest.mark.long
@pytest.mark.usefixtures("life_cycle")
def test_a_deployment_that_changes_nothing_rolls_nothing(platform: Platform) -> None:
    def pods() -> set[str]:
        return names(platform.live_pods(f"serving.kserve.io/inferenceservice={SERVICE}"))

    before = pods()
    assert len(before) == 2, "one while the other's node goes"
    with unchanged():
        platform.materialize(MODEL, "deployment")
    assert pods() == before
    [budget] = objects("poddisruptionbudgets", "-n", NAMESPACE, "-l", f"mlops.dev/model={MODEL}")
    assert budget["status"]["disruptionsAllowed"] == 1


@pytest.mark.usefixtures("life_cycle")
def test_a_predictor_that_does_not_come_up_leaves_the_old_one(platform: Platform) -> None:
    variable = "{name: MLOPS_PREDICTOR_IMAGE, value: 'localhost/no-predictor:1'}"
    config = override(f"{{container_config: {{env: [{variable}]}}}}")
    with unchanged():
        run = platform.run_fails(platform.launch(f"{MODEL}/deployment", config=config))
    assert "was not rolled out, version 1 keeps answering" in run.text
    assert "the image localhost/no-predictor:1 cannot be pulled" in run.text
    assert "Push the image, or correct its name" in run.text


def test_a_version_that_answers_otherwise_than_offline_is_not_let_through(
    life_cycle: tuple[Run, dict[str, dict[str, Any]]],
) -> None:
    _, pods = life_cycle
    name = "another-answer"
    pod = as_deployment_step(pods[step(MODEL, "deployment")], name, "deploy_another_answer", MODEL)
    succeeded = ("--for=jsonpath={.status.phase}=Succeeded", f"--timeout={POD_START_S}s")
    with unchanged():
        create(pod)
        try:
            kubectl("wait", "-n", NAMESPACE, f"pod/{name}", *succeeded)
            refusal = kubectl("logs", "-n", NAMESPACE, name)
        finally:
            kubectl("delete", "pod", "-n", NAMESPACE, name, "--wait=false")
    assert "Version 2 of fraud_detection was not rolled out, version 1 keeps answering" in refusal
    assert "golden rows" in refusal


@pytest.fixture
def callers(life_cycle: tuple[Run, dict[str, dict[str, Any]]]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Callers that ask the model all the time; what they have got up to now."""
    with calling(life_cycle[1][step(MODEL, "deployment")], MODEL) as got:
        yield got


@pytest.mark.long
def test_a_candidate_that_is_deleted_as_canary_costs_no_caller_an_answer(
    life_cycle: tuple[Run, dict[str, dict[str, Any]]], callers: Callable[[], dict[str, Any]]
) -> None:
    with unchanged(), roll_out(life_cycle[1][step(MODEL, "deployment")], MODEL, 8, 1_000_000) as rollout:
        wait_until(lambda: callers()["versions"].get("8"), POD_START_S, "the candidate answers some")
        kubectl("delete", "inferenceservice", "-n", NAMESPACE, f"{SERVICE}-candidate", "--wait=false")
        refused = "was not rolled out, version 1 keeps answering: canary: "
        wait_until(lambda: refused in rollout.said(), SOON_S, "it is refused")
        wait_until(
            lambda: f"{SERVICE}-candidate" not in names(objects("inferenceservices", "-n", NAMESPACE)),
            SOON_S,
            "it has gone",
        )
    assert callers()["failed"] == 0, callers()["failures"]


def test_a_version_is_proved_on_live_requests_and_takes_over_without_a_failed_one(
    life_cycle: tuple[Run, dict[str, dict[str, Any]]], callers: Callable[[], dict[str, Any]]
) -> None:
    with roll_out(life_cycle[1][step(MODEL, "deployment")], MODEL, 9, 100) as rollout:
        states = rollout.ends()
    assert states == ["prepared", "ready", "golden", "replayed", "shadowed", "canary", "promoted", "baked"]
    before = callers()["versions"].get("1", 0)
    wait_until(lambda: callers()["versions"]["9"] > 100, SOON_S, "the new version answers")
    wait_until(
        lambda: f"{SERVICE}-candidate" not in names(objects("inferenceservices", "-n", NAMESPACE)),
        SOON_S,
        "nothing is left of it",
    )
    assert callers()["versions"].get("1", 0) == before
    assert callers()["failed"] == 0, callers()["failures"]
