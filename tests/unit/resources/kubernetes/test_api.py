"""An API server that is away for a moment, overloaded, or whose answers are lost, against a real HTTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kubernetes.client import ApiException
from urllib3.exceptions import MaxRetryError

from mlops_assets.ml.errors import DeploymentError, TrainingError
from resources.kubernetes import api
from resources.kubernetes.labels import SPEC_SHA256
from resources.kubernetes.pods import Pods
from resources.serving.cluster_services import AUTOSCALER, ClusterServices
from resources.serving.expose import Expose
from resources.serving.exposure import exposure
from resources.serving.kserve_manifest import KSERVE

if TYPE_CHECKING:
    from tests.kubernetes_api import ApiServer

SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "rain"},
    "spec": {"predictor": {"minReplicas": 1}},
}


@pytest.mark.parametrize("fault", [503, 429, 500, "lost"])
def test_what_is_asked_is_asked_again_while_the_server_is_away(api_server: ApiServer, fault: int | str) -> None:
    ClusterServices(KSERVE, "mlops").apply(SERVICE)
    api_server.faults = [fault] * 6
    found = ClusterServices(KSERVE, "mlops").read("rain")
    assert found is not None
    assert found["spec"] == SERVICE["spec"]


def test_what_is_not_there_is_not_asked_for_again(api_server: ApiServer) -> None:
    assert ClusterServices(KSERVE, "mlops").read("rain") is None
    assert api_server.requests == ["GET"]


@pytest.mark.parametrize("fault", [503, "lost"])
def test_what_is_created_is_there_once_though_its_answer_is_lost(api_server: ApiServer, fault: int | str) -> None:
    api_server.faults = [fault]
    Pods("mlops").create_training_job({"metadata": {"name": "t"}, "spec": {"workers": 2}})
    assert [found["spec"] for found in api_server.objects.values()] == [{"workers": 2}]


def test_what_was_there_before_is_no_creation(api_server: ApiServer) -> None:
    Pods("mlops").create_training_job({"metadata": {"name": "t"}, "spec": {"workers": 2}})
    with pytest.raises(TrainingError, match="already exists"):
        Pods("mlops").create_training_job({"metadata": {"name": "t"}, "spec": {"workers": 3}})


def test_a_creation_is_given_up_where_the_server_stays_away(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib3 import Retry

    api_server.shutdown()
    api_server.server_close()
    tries, pauses = list[str](), list[int]()
    monkeypatch.setattr(Retry, "get_backoff_time", lambda retry: pauses.append(len(retry.history)) or 0)

    def create() -> None:
        tries.append("create")
        api.api_client().call_api("/jobs", "POST", body={}, auth_settings=[])

    with pytest.raises(MaxRetryError, match="Connection refused"):
        api.created(create, lambda: None)
    assert tries == ["create"], "the connection has tried already"
    assert len(pauses) == api.TRIES


def test_a_creation_is_given_up_where_the_server_stays_overloaded(api_server: ApiServer) -> None:
    api_server.faults = [503] * 100
    with pytest.raises(TrainingError, match="not now"):
        Pods("mlops").create_training_job({"metadata": {"name": "t"}})
    assert api_server.requests.count("POST") == api.TRIES
    assert api_server.objects == {}


def applied(**spec: Any) -> dict[str, Any]:
    """SERVICE with another predictor."""
    return SERVICE | {"spec": {"predictor": spec}}


@pytest.mark.parametrize("fault", [503, "lost"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_roll_out_whose_answer_is_lost_is_one(api_server: ApiServer, fault: int | str, is_there: bool) -> None:
    services = ClusterServices(KSERVE, "mlops")
    if is_there:
        services.apply(SERVICE)
    api_server.faults = [None, fault]  # the service is looked at, and applied
    services.apply(applied(minReplicas=2))
    assert [found["spec"] for found in api_server.objects.values()] == [applied(minReplicas=2)["spec"]]


def test_what_a_version_has_no_more_is_removed_and_what_others_have_set_stays(api_server: ApiServer) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.apply(applied(minReplicas=1, scaleMetric="memory"))
    [service] = api_server.objects.values()
    service["metadata"]["labels"] = {"argocd.argoproj.io/instance": "models"}
    service["spec"]["predictor"] |= {"timeout": 30, "minReplicas": 9}
    services.apply(applied(minReplicas=1))
    [service] = api_server.objects.values()
    assert service["spec"]["predictor"] == {"minReplicas": 1, "timeout": 30}
    assert service["metadata"]["labels"] == {"argocd.argoproj.io/instance": "models"}
    assert [manager for _, manager in api_server.applied] == ["mlops-assets"]


def test_what_another_has_changed_meanwhile_is_refused(api_server: ApiServer) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.apply(SERVICE)
    original = services.read
    answers = iter([original("rain")])
    services.apply(applied(minReplicas=5))
    services.read = lambda name: next(answers, None) or original(name)
    with pytest.raises(DeploymentError, match="the object has been modified"):
        services.apply(applied(minReplicas=2))


def test_of_two_kinds_of_autoscalers_that_of_before_goes(api_server: ApiServer) -> None:
    services = ClusterServices(KSERVE, "mlops")
    scalers = "/apis/autoscaling/v2/namespaces/mlops/horizontalpodautoscalers/rain-predictor"

    def scaled(kind: str) -> dict[str, Any]:
        return SERVICE | {"metadata": {"name": "rain", "annotations": {AUTOSCALER: kind}}}

    for kind, left in (("hpa", True), ("hpa", True), ("keda", False)):
        api_server.objects[scalers] = {"metadata": {"name": "rain-predictor"}}
        services.clear_up(services.apply(scaled(kind)), scaled(kind))
        assert (scalers in api_server.objects) == left


def test_a_transformer_that_is_not_wanted_any_more_goes_with_all_that_kserve_has_made_of_it(
    api_server: ApiServer,
) -> None:
    services, made = ClusterServices(KSERVE, "mlops"), ["/api/v1/services", "/apis/apps/v1/deployments"]
    made.append("/apis/autoscaling/v2/horizontalpodautoscalers")
    for kind in made:
        place, _, plural = kind.rpartition("/")
        for name in ("rain-transformer", "snow-transformer"):
            path = f"{place}/namespaces/mlops/{plural}/{name}"
            api_server.objects[path] = {"metadata": {"name": name}}
    services.apply(SERVICE | {"spec": {"predictor": {}, "transformer": {"containers": []}}})
    services.clear_up(services.apply(SERVICE), SERVICE)
    left = [path.rpartition("/")[2] for path in api_server.objects if path.endswith("-transformer")]
    assert left == ["snow-transformer"] * len(made)


def test_what_exposes_a_service_is_what_is_wanted_and_nothing_from_before(api_server: ApiServer) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.apply(SERVICE)
    [service] = api_server.objects.values()
    service["metadata"]["uid"] = "u-1"
    assert services.owner("snow") is None
    owner = services.owner("rain")
    assert owner is not None
    assert (owner["kind"], owner["uid"]) == ("InferenceService", "u-1")

    def kinds_after(**fields: Any) -> list[str]:
        expose = Expose.model_validate({"host": "rain.example.com", **fields}) if fields else None
        services.expose("rain", exposure("rain", "rain", expose, "a/b", "rain-predictor", "rain-predictor", owner))
        return sorted(item["kind"] for path, item in api_server.objects.items() if "gateway." in path)

    key = {"api_key": {"secret": "callers"}}
    assert kinds_after(auth=key, requests_per_minute=9) == ["BackendTrafficPolicy", "HTTPRoute", "SecurityPolicy"]
    assert kinds_after(auth="none") == ["HTTPRoute"]
    assert kinds_after() == []


def test_all_looks_share_one_connection(api_server: ApiServer) -> None:
    for _ in range(10):
        Pods("mlops").training_job("t")
        ClusterServices(KSERVE, "mlops").read("rain")
    assert api_server.connections == 1
    assert len(api_server.requests) == 20


def test_outside_of_a_cluster_that_is_said() -> None:
    with pytest.raises(DeploymentError, match="in no pod of the cluster"):
        api.in_cluster()


def restarted(api_server: ApiServer, code: int, restarts: int, **end: str) -> None:
    """The predictor of `rain` has ended so often, the last time with this code."""
    labels = {"serving.kserve.io/inferenceservice": "rain"}
    last = {"restartCount": restarts, "lastState": {"terminated": {"exitCode": code, **end}}}
    last |= {"name": "kserve-container", "image": "i", "imageID": "i", "ready": False}
    api_server.objects["/api/v1/namespaces/mlops/pods/rain-1"] = {
        "metadata": {"name": "rain-1", "labels": labels, "creationTimestamp": "2026-11-25T10:00:00Z"},
        "spec": {"containers": [{"name": "kserve-container"}]},
        "status": {"phase": "Running", "containerStatuses": [last]},
    }


@pytest.mark.parametrize(("code", "restarts", "at_once"), [(65, 1, True), (1, 1, False), (1, 3, True)])
def test_a_predictor_that_cannot_serve_ends_the_roll_out_and_one_that_stumbles_does_not(
    api_server: ApiServer, code: int, restarts: int, at_once: bool
) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.apply(SERVICE)
    restarted(api_server, code, restarts)
    looks: list[float] = []
    with pytest.raises(DeploymentError, match="its pod rain-1 ended"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("resources.serving.cluster_services.time.sleep", looks.append)
        services.wait_until_ready("rain", 0.5)
    assert bool(looks) != at_once


def test_a_predictor_that_runs_and_does_not_get_ready_has_its_last_words_in_the_error(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.apply(SERVICE)
    for name, ready in (("rain-1", "False"), ("rain-2", "True")):
        labels = {"serving.kserve.io/inferenceservice": "rain"}
        api_server.objects[f"/api/v1/namespaces/mlops/pods/{name}"] = {
            "metadata": {"name": name, "labels": labels, "creationTimestamp": f"2026-11-25T10:00:0{name[-1]}Z"},
            "spec": {"containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }
    monkeypatch.setattr(Pods, "log", lambda _, pod, *__: f"{pod} begins\nthe views of rain cannot be read\n")
    with pytest.raises(
        DeploymentError, match=r"rain-1 runs and is not ready: rain-1 begins \| the views of rain cannot"
    ):
        services.wait_until_ready("rain", 0.5)


def test_why_a_predictor_ended_is_known_when_its_log_has_gone(api_server: ApiServer) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.apply(SERVICE)
    restarted(api_server, 65, 2, message="starting\nits golden rows differ\n")
    with pytest.raises(DeploymentError, match=r"rain-1 ended \(.* exit code 65\): starting \| its golden rows differ"):
        services.wait_until_ready("rain", 0.5)


@pytest.mark.parametrize("log", [403, 404, 400, "lost"])
def test_a_roll_out_that_fails_tells_all_that_is_known_though_a_log_cannot_be_read(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, log: int | str
) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.apply(SERVICE)
    condition = {
        "type": "PredictorReady",
        "status": "False",
        "reason": "MinimumReplicasUnavailable",
        "message": "no\npod",
    }
    conditions = [condition, {"type": "Stopped", "status": "False"}, {"type": "IngressReady", "status": "True"}]
    api_server.objects["/apis/serving.kserve.io/v1beta1/namespaces/mlops/inferenceservices/rain"]["status"] = {
        "conditions": conditions
    }
    restarted(api_server, 137, 3, reason="OOMKilled")
    read = Pods.log

    def with_fault(pods: Pods, *arguments: Any, **options: Any) -> str:
        api_server.faults = [log]
        return read(pods, *arguments, **options)

    monkeypatch.setattr(Pods, "log", with_fault)
    with pytest.raises(DeploymentError) as told:
        services.wait_until_ready("rain", 0.5)
    first, *lines = str(told.value).splitlines()
    assert "needed more memory than its limit (OOMKilled)" in first
    assert "Raise memory in the YAML's deploy.resources" in first
    assert [line for line in lines if line.startswith("condition")] == [
        "condition PredictorReady is False: MinimumReplicasUnavailable: no pod"
    ]
    assert "ended with exit code 137 (OOMKilled) before, started again 3 times" in str(told.value)
    assert lines[-1].strip().startswith("(no log: ")


@pytest.mark.parametrize("fault", [503, "lost"])
def test_a_log_of_a_node_that_does_not_answer_is_not_asked_for_again(api_server: ApiServer, fault: int | str) -> None:
    api_server.faults = [fault] * 100
    assert Pods("mlops").log("train-1").startswith("(no log: ")
    assert len(api_server.requests) == 1


@pytest.mark.parametrize("fault", [None, 503, "lost"])
def test_a_service_gets_one_disruption_budget(api_server: ApiServer, fault: int | str | None) -> None:
    services = ClusterServices(KSERVE, "mlops")
    services.keep_up("rain")  # nobody is there
    services.apply(SERVICE | {"metadata": {"name": "rain", "labels": {}, "uid": "u-1"}})
    api_server.faults = [None, fault]  # the service is looked at, and the budget applied
    services.keep_up("rain")
    services.keep_up("rain")
    assert [path for path in api_server.objects if "poddisruptionbudgets" in path] == [
        "/apis/policy/v1/namespaces/mlops/poddisruptionbudgets/rain"
    ]


DEPLOYMENT = "/apis/apps/v1/namespaces/mlops/deployments/rain-predictor"


@pytest.mark.parametrize(
    ("change", "ready"),
    [
        ({}, True),
        ({"of": "another specification"}, False),
        ({"available": 1}, False),
        ({"observed": 6}, False),
        ({"Ready": "False"}, False),
    ],
    ids=["ready", "KServe has not looked yet", "a pod is not ready", "pods of before", "KServe says no"],
)
def test_a_service_is_ready_when_its_deployment_has_pods_of_this_specification_alone(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], ready: bool
) -> None:
    """Its own generation is 1, though the autoscaler has changed the Deployment since."""
    found = {"of": "this", "available": 2, "observed": 7, "Ready": "True"} | change
    services = ClusterServices(KSERVE, "mlops")
    services.apply(SERVICE | {"metadata": {"name": "rain", "annotations": {SPEC_SHA256: "this"}, "generation": 1}})
    [service] = api_server.objects.values()
    service["status"] = {"observedGeneration": 7, "conditions": [{"type": "Ready", "status": found["Ready"]}]}
    pods = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": found["available"]}
    api_server.objects[DEPLOYMENT] = {
        "metadata": {"name": "rain-predictor", "generation": 7},
        "spec": {
            "replicas": 2,
            "selector": {},
            "template": {"metadata": {"annotations": {SPEC_SHA256: found["of"]}}, "spec": {"containers": []}},
        },
        "status": {**pods, "observedGeneration": found["observed"]},
    }
    if ready:
        services.wait_until_ready("rain", 0.5)
    else:
        with pytest.raises(DeploymentError, match="rain is not ready"):
            services.wait_until_ready("rain", 0.5)


def test_a_roll_out_while_the_api_server_is_away_says_so(api_server: ApiServer) -> None:
    api_server.shutdown()
    api_server.server_close()
    with pytest.raises(DeploymentError, match="is away, and the InferenceService rain cannot be changed"):
        ClusterServices(KSERVE, "mlops").apply(SERVICE)


@pytest.mark.parametrize(("status", "away"), [(503, True), (429, True), (404, False), (403, False)])
def test_an_api_server_that_refuses_is_not_away(api_server: ApiServer, status: int, away: bool) -> None:
    api_server.faults = [status] * 100
    with pytest.raises(ApiException) as refused:
        Pods("mlops").matching("a=b")
    assert api.is_away(refused.value) == away


@pytest.mark.parametrize(
    ("body", "told"), [('{"message": "no room"}', "no room"), ("<html>", "Forbidden"), (None, "Forbidden")]
)
def test_a_refusal_is_told_by_the_api_servers_words_where_there_are_any(body: str | None, told: str) -> None:
    error = ApiException(status=403, reason="Forbidden")
    error.body = body
    assert api.reason_of(error) == told
