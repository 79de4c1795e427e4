"""The InferenceService of a version, as it is applied."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from typing import TYPE_CHECKING

import pytest

from mlops_assets.serving.declaration import ServedVersion
from resources.kubernetes.labels import EXPLAIN
from resources.lake.space import name_in
from resources.serving.kserve_manifest import KSERVE, inference_service
from resources.serving.predictor_pod import covers, disruption_budget, service_name
from resources.serving.service_settings import ServiceSettings
from tests.crds import problems

if TYPE_CHECKING:
    from typing import Any


def made(version: ServedVersion | None = None, size: int = 1 << 20, replicas: int = 2, **more: Any) -> dict[str, Any]:
    """The service of a version of flight_delay."""
    uri, served = "s3://lake/served/flight_delay/3", version or ServedVersion.of(3, "0" * 64)
    given = {"size": size, "replicas": replicas, "lake_uri": "s3://lake", "namespace": "mlops", **more}
    return inference_service("flight-delay", "flight_delay", served, uri, "image:1", **given)


def laid_out(**settings: Any) -> ServiceSettings:
    return ServiceSettings.model_validate(settings)


@pytest.mark.parametrize(("model", "name"), [("iris", "iris"), ("flight_delay", "flight-delay")])
def test_a_service_has_a_name_that_kubernetes_takes(model: str, name: str) -> None:
    assert service_name(model) == name


def test_each_model_of_each_space_has_a_service_of_its_own_which_kserve_can_label() -> None:
    words = [*itertools.product("ab", repeat=3)]
    models = (
        {"_".join(word) for word in words}
        | {"a" * length for length in range(1, 42)}
        | {f"{'a_' * 20}{c}" for c in "ab"}
    )
    names = [service_name(name_in(space, model)) for space in ("", "a", "a-b", "s" * 20) for model in models]
    assert len({*names}) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]([a-z0-9-]{0,36}[a-z0-9])?", name)] == []


def test_the_manifest_serves_one_version_from_the_lake() -> None:
    version = ServedVersion.of(3, "0123456789abcdef" * 4)
    service = made(version)
    assert service["metadata"] == {
        "name": "flight-delay",
        "labels": {"mlops.dev/model": "flight_delay", "networking.kserve.io/visibility": "cluster-local"},
        "annotations": {
            "serving.kserve.io/deploymentMode": "Standard",
            "serving.kserve.io/autoscalerClass": "hpa",
            "mlops.dev/version": "3",
            "mlops.dev/sha256": version.sha256,
            "mlops.dev/artifact": "s3://lake/served/flight_delay/3",
            "mlops.dev/spec-sha256": hashlib.sha256(json.dumps(service["spec"], sort_keys=True).encode()).hexdigest(),
        },
    }
    predictor = service["spec"]["predictor"]
    assert predictor["labels"] == {"mlops.dev/model": "flight_delay", "mlops.dev/stage": "serving"}
    [container] = predictor["containers"]
    assert container["image"] == "image:1"
    assert dict(zip(container["args"][::2], container["args"][1::2], strict=True)) == {
        "--models": "/tmp/models",
        "--host": "0.0.0.0",
        "--port": "8080",
        "--grpc-port": "8081",
        "--drain": "5",
        "--max-body-mib": "8",
        "--max-rows": "100000",
        "--fetch": "s3://lake/served/flight_delay/3",
        "--model": "flight_delay",
        "--model-version": "3",
        "--sha256": version.sha256,
        "--lake-uri": "s3://lake",
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/flight_delay/versions/3/ready"
    starting = container["startupProbe"]
    assert starting["periodSeconds"] * starting["failureThreshold"] >= 600, "a large model is fetched in that time"
    assert container["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize(
    ("size", "requested", "limit"),
    [(1 << 20, "512Mi", "1024Mi"), (300 << 20, "1024Mi", "2048Mi"), (2 << 30, "4608Mi", "9216Mi")],
)
def test_a_predictor_has_the_memory_that_its_artifact_takes(size: int, requested: str, limit: str) -> None:
    [container] = made(ServedVersion.of(3, "0" * 64), size)["spec"]["predictor"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "200m", "memory": requested},
        "limits": {"memory": limit},
    }


def test_a_predictor_that_takes_larger_bodies_has_the_memory_for_them() -> None:
    version = ServedVersion.of(3, "0" * 64)
    service = inference_service("iris", "iris", version, "s3://lake/p", "i:1", size=1, replicas=1, max_body_mib=64)
    [container] = service["spec"]["predictor"]["containers"]
    assert container["resources"]["limits"] == {"memory": "4608Mi"}
    assert container["args"][container["args"].index("--max-body-mib") + 1] == "64"


def test_the_pods_of_a_service_are_in_several_zones_and_go_one_at_a_time() -> None:
    service = made(ServedVersion.of(3, "0" * 64))
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 6)
    service["metadata"]["uid"] = "u-1"
    budget = disruption_budget(KSERVE, service)
    selected = {"matchLabels": {"serving.kserve.io/inferenceservice": "flight-delay"}}
    spread = {"matchLabels": {**selected["matchLabels"], "component": "predictor"}}
    assert [item["labelSelector"] for item in predictor["topologySpreadConstraints"]] == [spread] * 2
    assert (budget["spec"]["selector"], budget["spec"]["maxUnavailable"]) == (selected, 1)
    assert budget["metadata"]["ownerReferences"][0]["uid"] == "u-1"


def test_what_admission_adds_is_no_change_and_what_somebody_changed_is() -> None:
    wanted = made(ServedVersion.of(3, "0" * 64))["spec"]
    present = copy.deepcopy(wanted)
    [container] = present["predictor"]["containers"]
    container["resources"]["limits"]["cpu"] = "1"
    container["terminationMessagePath"] = "/dev/termination-log"
    assert covers(present, wanted)
    container["resources"]["limits"]["memory"] = "64Mi"
    assert not covers(present, wanted)
    present = copy.deepcopy(wanted)
    present["predictor"]["containers"].append({"name": "sidecar"})
    assert not covers(present, wanted)


def test_a_model_that_is_explained_says_so_to_its_server_and_to_who_reads_its_object() -> None:
    plain, explained = (made(ServedVersion.of(3, "0" * 64, explain=explain)) for explain in (False, True))
    for manifest, is_there in ((plain, False), (explained, True)):
        [container] = manifest["spec"]["predictor"]["containers"]
        assert ("--explain" in container["args"]) == is_there
        assert (EXPLAIN in manifest["metadata"]["annotations"]) == is_there


def test_it_is_scaled_by_cpu_as_kserve_does_where_the_yaml_says_nothing() -> None:
    predictor = made()["spec"]["predictor"]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("cpu", 80)
    assert "mlops.dev/service" not in made()["metadata"]["annotations"]


def test_it_is_scaled_as_the_yaml_says_and_keeps_that_with_it() -> None:
    scale = {"min_replicas": 3, "max_replicas": 4, "metric": "memory", "target": 60}
    service = made(service=laid_out(scale=scale))
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (3, 4)
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("memory", 60)
    assert json.loads(service["metadata"]["annotations"]["mlops.dev/service"]) == {"scale": scale}


def test_by_concurrency_keda_scales_it_by_what_prometheus_sees_of_its_pods() -> None:
    settings = laid_out(scale={"metric": "concurrency", "target": 10})
    service = made(service=settings, prometheus="http://prometheus:9090")
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "keda"
    predictor = service["spec"]["predictor"]
    assert "scaleMetric" not in predictor, "KServe refuses it beside KEDA"
    [metric] = predictor["autoScaling"]["metrics"]
    query = metric["external"]["metric"]["query"]
    assert query.removeprefix("sum(rate(").removesuffix("[1m]))") == (
        'model_request_duration_seconds_sum{namespace="mlops",pod=~"flight-delay-predictor-.*"}'
    )
    # As KServe's KedaReconciler makes it of that
    trigger = {"type": "prometheus", "metadata": {"serverAddress": "http://prometheus:9090", "query": query}}
    trigger["metadata"]["threshold"] = metric["external"]["target"]["value"]
    scaled = {"scaleTargetRef": {"name": "flight-delay-predictor"}, "triggers": [trigger]}
    scaled |= {"minReplicaCount": predictor["minReplicas"], "maxReplicaCount": predictor["maxReplicas"]}
    assert problems({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": scaled}) == []


def test_what_its_pods_ask_for_is_what_the_yaml_says() -> None:
    pod = made(service=laid_out(resources={"cpu": 1.5, "memory": "3Gi", "gpu": 2}))["spec"]["predictor"]
    [container] = pod["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1500m", "memory": "3Gi"},
        "limits": {"memory": "3Gi", "nvidia.com/gpu": "2"},
    }
    assert pod["nodeSelector"] == {"mlops.dev/pool": "gpu"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "--gpu" in container["args"]


def looking_up(**more: Any) -> dict[str, Any]:
    """The service of a version whose callers leave out two columns."""
    settings = laid_out(looked_up=["temp", "wind_speed"], **more)
    return made(service=settings, platform_image="platform:1", prometheus="http://prometheus:9090")


def test_what_is_looked_up_is_looked_up_by_a_transformer_with_the_database_and_nothing_else() -> None:
    transformer = looking_up(scale={"min_replicas": 3})["spec"]["transformer"]
    assert (transformer["serviceAccountName"], transformer["automountServiceAccountToken"]) == ("transformer", False)
    assert (transformer["minReplicas"], transformer["maxReplicas"]) == (3, 9)
    assert transformer["labels"]["mlops.dev/uses-postgres"] == "true"
    [container] = transformer["containers"]
    assert (container["image"], container["securityContext"]["readOnlyRootFilesystem"]) == ("platform:1", True)
    assert "envFrom" not in container
    secrets = [item["valueFrom"]["secretKeyRef"] for item in container["env"] if "secretKeyRef" in str(item)]
    assert secrets == [{"name": "features-database", "key": "uri"}]
    assert container["args"][:4] == ["--model_name", "flight_delay", "--predictor_host", "flight-delay-predictor.mlops"]
    told = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    ports = [str(port["containerPort"]) for port in container["ports"]]
    assert ports == [told["--http_port"], told["--grpc-port"]] == ["8080", "8081"]
    spread = [item["labelSelector"]["matchLabels"]["component"] for item in transformer["topologySpreadConstraints"]]
    assert spread == ["transformer"] * 2


def test_kserve_adds_no_argument_to_a_transformer() -> None:
    """It does where none begins with one of these (CustomTransformer.GetContainer)."""
    [container] = looking_up()["spec"]["transformer"]["containers"]
    for name in ("--model_name", "--predictor_host", "--http_port"):
        assert any(argument.startswith(name) for argument in container["args"])


def test_a_transformer_is_scaled_by_cpu_also_where_keda_scales_its_predictor() -> None:
    service = looking_up(scale={"metric": "concurrency"})
    assert service["spec"]["transformer"]["annotations"] == {"serving.kserve.io/autoscalerClass": "hpa"}
    assert "scaleMetric" not in service["spec"]["transformer"], "KServe refuses it in an InferenceService with KEDA"
    assert problems(service) == []


@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": {"metric": "concurrency"}}, {"scale": {"metric": "memory"}, "resources": {"gpu": 1}}],
    ids=["as it is", "by KEDA", "on a GPU"],
)
def test_the_crd_takes_every_field(settings: dict[str, Any]) -> None:
    assert problems(made(service=laid_out(**settings), prometheus="http://prometheus:9090")) == []
