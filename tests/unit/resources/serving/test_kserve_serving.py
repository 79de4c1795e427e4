"""KServe's target on a stand-in for its API; tests/cluster has the real one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DeploymentError
from resources.kubernetes.labels import VERSION
from resources.lake.lake import Lake
from resources.serving.kserve_serving import KServe
from resources.serving.service_settings import Scale, ServiceSettings
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


class Services:
    """The InferenceServices of a namespace, each ready at once."""

    namespace = "models"

    def __init__(self) -> None:
        self.manifests: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.exposed: dict[str, dict[Any, dict[str, Any]]] = {}
        self.not_ready: set[tuple[str, str]] = set()
        self.pods: dict[str, frozenset[str]] = {}

    def version(self, name: str) -> str:
        return self.manifests[name]["metadata"]["annotations"][VERSION]

    def read(self, name: str) -> dict[str, Any] | None:
        found = self.manifests.get(name)
        return found and copy.deepcopy(found | {"status": {}, "metadata": found["metadata"] | {"uid": "1"}})

    def list(self) -> list[dict[str, Any]]:
        return [*self.manifests.values()]

    def apply(self, service: dict[str, Any]) -> None:
        name = service["metadata"]["name"]
        self.manifests[name] = copy.deepcopy(service)
        self.calls.append(f"apply {name} {self.version(name)}")

    def clear_up(self, before: dict[str, Any] | None, service: dict[str, Any]) -> None:
        """Nothing is left."""

    def image_here(self) -> str:
        return "platform:1"

    def owner(self, name: str) -> dict[str, Any]:
        return {"name": name}

    def expose(self, name: str, wanted: dict[Any, dict[str, Any]]) -> None:
        self.exposed[name] = wanted

    def keep_up(self, name: str) -> None:
        self.calls.append(f"keep up {name}")

    def delete(self, name: str) -> None:
        self.manifests.pop(name, None)
        self.calls.append(f"delete {name}")

    def live_pods(self, name: str) -> frozenset[str]:
        return self.pods.get(name, frozenset())

    def wait_until_ready(self, name: str, timeout_s: float) -> None:
        if (name, self.version(name)) in self.not_ready:
            raise DeploymentError(f"{name} is not ready")


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    services = Services()
    monkeypatch.setattr(KServe, "services", services)
    return services


@pytest.fixture
def target(services: Services, tmp_path: Path) -> KServe:
    """A target on which version 1 of `my_model` is served; all servers double what they are sent."""

    class Doubling(KServe):
        def post(self, url: str, body: dict[str, Any], headers: Any = None) -> dict[str, Any]:
            services.calls.append(f"ask {url}")
            [tensor] = body["inputs"]
            doubled = [2 * value for value in tensor["data"]]
            return {"outputs": [{"name": "prediction", "shape": tensor["shape"], "data": doubled}]}

    target = Doubling(lake=Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache")), image="image:1")
    signature = write_artifact(tmp_path / "artifact")
    target.deploy("my_model", tmp_path / "artifact", signature.sha256, 1)
    services.calls.clear()
    return target


@pytest.fixture
def artifact(target: KServe, tmp_path: Path) -> tuple[Path, str]:
    """The artifact of version 1, and its digest."""
    served = target.current("my_model")
    assert served is not None
    return tmp_path / "artifact", served.sha256


def test_the_candidate_is_gone_before_the_service_changes(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    proof = target.deploy("my_model", *artifact, 2)
    assert services.calls == [
        "apply my-model-candidate 2",
        "ask http://my-model-candidate-predictor.models/v2/models/my_model/infer",
        "delete my-model-candidate",
        "apply my-model 2",
        "keep up my-model",
        "ask http://my-model-predictor.models/v2/models/my_model/infer",
    ]
    assert proof.url == "http://my-model-predictor.models"
    assert proof.link is None, "no browser resolves that"
    assert proof.example.splitlines()[0] == "kubectl port-forward -n models service/my-model-predictor 8080:80 &"
    assert proof.example.splitlines()[1].startswith("curl http://127.0.0.1:8080/v1/models/my_model:predict -d ")
    assert target.lake.store.read(f"served/my_model/2-{artifact[1][:12]}/model.json") is not None


def test_where_a_model_has_an_address_for_callers_outside_the_pages_name_that(
    target: KServe, artifact: tuple[Path, str]
) -> None:
    public = target.model_copy(update={"public_url": "https://{service}-{namespace}.example.com/"})
    proof = public.deploy("my_model", *artifact, 2)
    assert proof.url == "http://my-model-predictor.models"
    assert proof.link == "https://my-model-models.example.com/v2/models/my_model"
    assert proof.example.startswith("curl https://my-model-models.example.com/v1/models/my_model:predict -d ")


def test_the_lake_keeps_what_is_served_and_what_was_before(target: KServe, artifact: tuple[Path, str]) -> None:
    target.lake.store.replace("served/my_model_2/1-a/model.json", b"of another model")
    for version in (2, 3):
        target.deploy("my_model", *artifact, version)
    folders = {item.key.split("/")[2].partition("-")[0] for item in target.lake.store.stored("served/my_model")}
    assert folders == {"2", "3"}
    assert target.lake.store.read("served/my_model_2/1-a/model.json") is not None


def test_a_retired_model_leaves_neither_services_nor_files(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    target.deploy("another", *artifact, 1)
    candidate = copy.deepcopy(services.manifests["my-model"])
    candidate["metadata"]["name"] += "-candidate"
    services.apply(candidate)
    assert target.served() == ["another", "my_model"]
    before = target.retire("my_model")
    assert before is not None
    assert before.version == "1"
    assert services.manifests.keys() == {"another"}
    assert {item.key.split("/")[1] for item in target.lake.store.stored("served")} == {"another"}
    assert target.served() == ["another"]
    assert target.retire("my_model") is None


def test_what_is_served_with_the_same_image_needs_no_candidate(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    before = copy.deepcopy(services.manifests)
    target.deploy("my_model", *artifact, 1)
    assert services.manifests == before
    assert "apply my-model-candidate 1" not in services.calls
    newer = target.model_copy(update={"image": "image:2"})
    newer.deploy("my_model", *artifact, 1)
    assert "apply my-model-candidate 1" in services.calls


@pytest.mark.parametrize(
    ("pods", "is_there", "has_moved"),
    [({"1"}, True, False), ({"2"}, True, True), (set(), True, False), ({"2"}, False, False)],
    ids=["its pod", "another pod", "no pod", "deleted"],
)
def test_a_candidate_has_moved_when_it_is_there_and_none_of_its_pods_is(
    target: KServe, services: Services, pods: set[str], is_there: bool, has_moved: bool
) -> None:
    candidate = "my-model-candidate"
    before = target.current("my_model")
    assert before
    services.pods = {candidate: frozenset({"1"})}
    target.start_candidate("my_model", before)
    services.pods = {candidate: frozenset(pods)}
    if not is_there:
        services.delete(candidate)
    assert target.candidate_has_moved("my_model") == has_moved
    assert not target.candidate_has_moved("my_model"), "it is known by its new pod now"


def test_a_candidate_that_does_not_get_ready_elsewhere_is_refused_for_that(target: KServe, services: Services) -> None:
    before = target.current("my_model")
    assert before
    target.start_candidate("my_model", before)
    services.pods = {"my-model-candidate": frozenset({"2"})}
    services.not_ready = {("my-model-candidate", before.version)}
    with pytest.raises(DeploymentError, match="my-model-candidate is not ready"):
        target.candidate_has_moved("my_model")


@pytest.mark.parametrize("name", ["my-model-candidate", "my-model"])
def test_a_version_that_does_not_get_ready_leaves_the_service_as_it_was(
    target: KServe, services: Services, artifact: tuple[Path, str], name: str
) -> None:
    before = copy.deepcopy(services.manifests)
    services.not_ready = {(name, "2")}
    with pytest.raises(DeploymentError, match=f"{name} is not ready"):
        target.deploy("my_model", *artifact, 2)
    assert services.manifests == before


def test_a_first_version_that_does_not_get_ready_leaves_no_service(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    services.manifests.clear()
    services.not_ready = {("my-model", "1")}
    with pytest.raises(DeploymentError, match="was rolled back"):
        target.deploy("my_model", *artifact, 1)
    assert services.manifests == {}


def test_a_service_is_laid_out_as_one_says_and_stays_so_where_nobody_says_anything(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    target.deploy("my_model", *artifact, 2, service=ServiceSettings(scale=Scale(min_replicas=5)))
    assert services.manifests["my-model"]["spec"]["predictor"]["minReplicas"] == 5
    target.deploy("my_model", *artifact, 3)
    assert services.manifests["my-model"]["spec"]["predictor"]["minReplicas"] == 5
    target.deploy("my_model", *artifact, 4, service=ServiceSettings())
    assert services.manifests["my-model"]["spec"]["predictor"]["minReplicas"] == 2


def test_callers_ask_the_transformer_and_proofs_the_predictor(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    proof = target.deploy("my_model", *artifact, 2, service=ServiceSettings(looked_up=("x",)))
    asked = [call for call in services.calls if call.startswith("ask")]
    assert [call.split("/")[2] for call in asked] == [
        "my-model-candidate-predictor.models",
        "my-model-predictor.models",
    ]
    assert proof.url == "http://my-model-transformer.models"
    assert proof.example.startswith("kubectl port-forward -n models service/my-model-transformer 8080:80 &\n")
    assert '"instances": [{}]' in proof.example, "x is looked up"
    [container] = services.manifests["my-model"]["spec"]["transformer"]["containers"]
    assert container["image"] == "platform:1"
    target.deploy("my_model", *artifact, 3, service=ServiceSettings())
    assert "transformer" not in services.manifests["my-model"]["spec"]


def test_an_exposed_model_is_shown_at_its_host_and_is_hidden_again_by_a_rollback(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    public = target.model_copy(update={"gateway": "gateways/public/https"})
    auth = {"api_key": {"secret": "callers"}}
    service = ServiceSettings.model_validate({"expose": {"host": "m.example.com", "auth": auth}, "looked_up": ["x"]})
    proof = public.deploy("my_model", *artifact, 2, service=service)
    assert proof.link == "https://m.example.com/v2/models/my_model"
    assert proof.example.startswith('curl -H "x-api-key: $API_KEY" https://m.example.com/v1/models/my_model:predict')
    assert [*services.exposed] == ["my-model"], "a candidate is not exposed"
    assert len(services.exposed["my-model"]) == 2
    before = public.current("my_model")
    assert before is not None
    public.deploy("my_model", *artifact, 3, service=ServiceSettings())
    assert services.exposed["my-model"] == {}
    public.rollback("my_model", before)
    assert len(services.exposed["my-model"]) == 2


def exposed(target: KServe, artifact: tuple[Path, str]) -> KServe:
    public = target.model_copy(update={"gateway": "gateways/public/https"})
    service = ServiceSettings.model_validate({"expose": {"host": "m.example.com", "auth": "none"}})
    public.deploy("my_model", *artifact, 2, service=service)
    return public


def test_who_retires_a_model_hides_it_before_it_goes(
    target: KServe, services: Services, artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    public, open_at = exposed(target, artifact), list[int]()
    assert services.exposed["my-model"]
    monkeypatch.setattr(services, "delete", lambda _: open_at.append(len(services.exposed["my-model"])))
    public.rollback("my_model", None)
    assert open_at == [0]


def test_an_exposed_version_cannot_come_back_where_no_gateway_is_known_any_more(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    before = exposed(target, artifact).current("my_model")
    assert before is not None
    with pytest.raises(DeploymentError, match="no gateway is known; set MLOPS_GATEWAY"):
        target.rollback("my_model", before)
    assert services.exposed["my-model"], "what is open stays as it was"


def test_a_service_that_somebody_deletes_meanwhile_is_not_exposed(
    target: KServe, services: Services, artifact: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "owner", lambda _: None)
    exposed(target, artifact)
    assert not services.exposed.get("my-model")


def test_a_candidate_is_one_pod(target: KServe, services: Services, artifact: tuple[Path, str]) -> None:
    seen = list[dict[str, Any]]()
    original = services.apply
    services.apply = lambda service: seen.append(service) or original(service)  # pyright: ignore[reportAttributeAccessIssue]
    target.deploy("my_model", *artifact, 2, service=ServiceSettings(scale=Scale(min_replicas=5)))
    replicas = [(item["spec"]["predictor"]["minReplicas"], item["spec"]["predictor"]["maxReplicas"]) for item in seen]
    assert replicas == [(1, 1), (5, 15)]


def test_a_model_of_a_space_has_services_and_files_beside_those_of_production(
    target: KServe, services: Services, artifact: tuple[Path, str]
) -> None:
    proof = target.deploy("ann--my_model", *artifact, 2)
    assert sorted(services.manifests) == ["ann--my-model", "my-model"]
    assert (proof.url, proof.model) == ("http://ann--my-model-predictor.models", "ann--my_model")
    assert (services.version("my-model"), target.served()) == ("1", ["ann--my_model", "my_model"])
    target.retire("ann--my_model")
    assert sorted(services.manifests) == ["my-model"]
    assert target.lake.store.read(f"served/my_model/1-{artifact[1][:12]}/model.json") is not None
