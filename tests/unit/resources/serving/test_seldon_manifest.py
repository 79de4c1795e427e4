"""The SeldonDeployment of a version: what Seldon Core 1.17's CRD takes, and what its operator makes of it, starts."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3

from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.log_policy import InferenceLogPolicy
from resources.kubernetes.labels import SPEC_SHA256
from resources.serving.kserve_manifest import inference_service
from resources.serving.predictor_pod import covers, disruption_budget
from resources.serving.seldon_manifest import SELDON, predictor_service, seldon_deployment
from resources.serving.service_settings import Scale, ServiceSettings
from resources.serving.serving_pod import GRPC, HTTP
from tests.artifacts import write_artifact
from tests.crds import problems
from tests.model_servers import PROJECT
from tests.support import free_port, post, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def made(sha256: str = "0" * 64, uri: str = "s3://lake/served/flight_delay/3", **more: Any) -> dict[str, Any]:
    """The object of version 3 of flight_delay."""
    version = ServedVersion.of(3, sha256, InferenceLogPolicy())
    given = {"size": 1 << 20, "replicas": 2, "lake_uri": "s3://lake", **more}
    return seldon_deployment("flight-delay", "flight_delay", version, uri, "image:1", **given)


def predictor_of(deployment: dict[str, Any]) -> dict[str, Any]:
    [predictor] = deployment["spec"]["predictors"]
    return predictor


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    [component] = predictor_of(deployment)["componentSpecs"]
    return component["spec"]


def test_the_crd_takes_every_field() -> None:
    assert problems(made()) == []
    wrong = made()
    wrong["spec"]["predictors"][0]["grap"] = wrong["spec"]["predictors"][0].pop("graph")
    assert any("grap: no such field" in problem for problem in problems(wrong))


def test_the_graph_is_our_predictor_alone_without_seldons_executor() -> None:
    predictor, pod = predictor_of(made()), pod_of(made())
    [container] = pod["containers"]
    assert predictor["graph"]["name"] == container["name"]
    assert predictor["annotations"]["seldon.io/no-engine"] == "true"
    assert made()["spec"]["protocol"] == "v2"


def test_its_pods_are_those_of_kserve_but_for_what_the_operator_adds() -> None:
    version = ServedVersion.of(3, "0" * 64, InferenceLogPolicy())
    uri = "s3://lake/served/flight_delay/3"
    given: dict[str, Any] = {"size": 1 << 20, "replicas": 2, "lake_uri": "s3://lake"}
    service = inference_service("flight-delay", "flight_delay", version, uri, "image:1", **given)["spec"]["predictor"]
    pod = pod_of(made())
    [ours], [theirs] = pod["containers"], service["containers"]
    own = {"name", "ports", "volumeMounts"}
    assert {key: ours[key] for key in ours.keys() - own} == {key: theirs[key] for key in theirs.keys() - own}
    assert [port["containerPort"] for port in ours["ports"]] == [HTTP, GRPC, 6000]
    assert [port["name"] for port in ours["ports"]] == ["http", "grpc", "metrics"]
    own = {"containers", "volumes", "topologySpreadConstraints"}
    assert {key: pod[key] for key in pod.keys() - own} == {key: service[key] for key in pod.keys() - own}
    assert predictor_of(made())["labels"] == service["labels"]


def test_the_pods_keep_the_restricted_standard_though_the_operator_drops_the_context_of_the_pod() -> None:
    [container] = pod_of(made())["containers"]
    context = container["securityContext"]
    assert (context["runAsNonRoot"], context["allowPrivilegeEscalation"]) == (True, False)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_pods_are_known_by_their_specification_and_named_as_the_operator_does() -> None:
    first, other = made(), made(uri="s3://lake/served/flight_delay/4")
    assert predictor_of(first)["annotations"][SPEC_SHA256] == first["metadata"]["annotations"][SPEC_SHA256]
    assert first["metadata"]["annotations"][SPEC_SHA256] != other["metadata"]["annotations"][SPEC_SHA256]
    assert made()["metadata"]["annotations"] == first["metadata"]["annotations"]
    assert SELDON.deployment("flight-delay") == "flight-delay-default-0-predictor"
    assert predictor_service("flight-delay") == "flight-delay-default"
    assert len(SELDON.deployment("a" * 50)) == len("seldon-") + 32
    budget = disruption_budget(SELDON, first | {"metadata": first["metadata"] | {"uid": "u-1"}})
    assert budget["spec"]["selector"]["matchLabels"] == {"seldon-deployment-id": "flight-delay"}
    assert budget["metadata"]["ownerReferences"][0]["kind"] == "SeldonDeployment"


def defaulted(deployment: dict[str, Any]) -> dict[str, Any]:
    """The object after the operator's webhook, as operator/apis/machinelearning.seldon.io/v1/defaults.go writes it."""
    predictor = predictor_of(deployment)
    predictor["labels"].setdefault("version", predictor["name"])
    predictor["graph"].setdefault("implementation", "UNKNOWN_IMPLEMENTATION")
    [container] = pod_of(deployment)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if "metrics" not in ports:
        container["ports"].append({"name": "metrics", "containerPort": 6000, "protocol": "TCP"})
    if "seldon-podinfo" not in [mount["name"] for mount in container["volumeMounts"]]:
        container["volumeMounts"].append({"name": "seldon-podinfo", "mountPath": "/etc/podinfo"})
    http, grpc = ports.get("http", 9000), ports.get("grpc", 9500)
    endpoint = {"service_host": "localhost", "service_port": http, "httpPort": http, "grpcPort": grpc}
    predictor["graph"]["endpoint"] = endpoint
    return deployment


def test_what_the_webhook_adds_is_no_change() -> None:
    assert covers(defaulted(made())["spec"], made()["spec"])
    assert not covers(defaulted(made(uri="s3://lake/other"))["spec"], made()["spec"])


def operators_environment(deployment: dict[str, Any]) -> dict[str, str]:
    """What the operator adds to the container's environment (operator/controllers/seldondeployment_controller.go)."""
    predictor = predictor_of(deployment)
    endpoint, [container] = predictor["graph"]["endpoint"], pod_of(deployment)["containers"]
    http, grpc = str(endpoint["httpPort"]), str(endpoint["grpcPort"])
    return {
        "PREDICTIVE_UNIT_SERVICE_PORT": http,
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": http,
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": grpc,
        "MLSERVER_HTTP_PORT": http,
        "MLSERVER_GRPC_PORT": grpc,
        "MLSERVER_MODEL_NAME": container["name"],
        "PREDICTIVE_UNIT_ID": container["name"],
        "PREDICTIVE_UNIT_IMAGE": container["image"],
        "PREDICTOR_ID": predictor["name"],
        "PREDICTOR_LABELS": "{}",
        "SELDON_DEPLOYMENT_ID": deployment["metadata"]["name"],
        "SELDON_EXECUTOR_ENABLED": "true",
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": http,
        "PREDICTIVE_UNIT_METRICS_ENDPOINT": "/prometheus",
    }


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except OSError:
        return 0


def test_the_container_answers_as_seldon_starts_it(s3_endpoint: str, tmp_path: Path) -> None:
    """The image's own command with the container's arguments and the operator's environment; ports aside, which are
    free ones of this machine."""
    signature = write_artifact(tmp_path / "artifact")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="seldon", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for file in (tmp_path / "artifact").iterdir():
        client.upload_file(str(file), "seldon", f"served/{file.name}")
    deployment = made(signature.sha256, "s3://seldon/served", lake_uri="s3://seldon/lake")
    [container] = pod_of(deployment)["containers"]
    http, grpc = free_port(), free_port()
    for port in container["ports"]:
        port["containerPort"] = grpc if port["name"] == "grpc" else http
    here = {"/tmp/models": str(tmp_path / "models"), str(HTTP): str(http), str(GRPC): str(grpc)}
    arguments = [here.get(argument, argument) for argument in container["args"]]
    environment = operators_environment(defaulted(deployment))
    assert environment["PREDICTIVE_UNIT_HTTP_SERVICE_PORT"] == arguments[arguments.index("--port") + 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_assets.serving.model_server", *arguments],
        cwd=PROJECT,
        env=os.environ | environment | {"AWS_ENDPOINT_URL_S3": s3_endpoint},
    )
    url = f"http://127.0.0.1:{http}"
    try:
        wait_until(
            lambda: process.poll() is not None or status_of(url + container["readinessProbe"]["httpGet"]["path"]) == 200
        )
        assert status_of(url + container["livenessProbe"]["httpGet"]["path"]) == 200
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1.0, 4.0]}
        code, answer = post(f"{url}/v2/models/flight_delay/infer", {"inputs": [tensor]})
        assert (code, answer["outputs"][0]["data"], answer["model_version"]) == (200, [2.0, 8.0], "3")
        assert status_of(url + predictor_of(deployment)["annotations"]["prometheus.io/path"]) == 200
    finally:
        process.terminate()
        process.wait(timeout=30)
    stored = client.list_objects_v2(Bucket="seldon", Prefix="lake/inference/flight_delay/")
    assert stored["KeyCount"] == 1


def test_it_is_scaled_as_the_yaml_says_by_what_seldon_can() -> None:
    [component] = predictor_of(made(service=ServiceSettings(scale=Scale(max_replicas=4, metric="memory"))))[
        "componentSpecs"
    ]
    [metric] = component["hpaSpec"]["metricsv2"]
    assert (component["hpaSpec"]["minReplicas"], component["hpaSpec"]["maxReplicas"]) == (2, 4)
    assert metric["resource"]["name"] == "memory"
