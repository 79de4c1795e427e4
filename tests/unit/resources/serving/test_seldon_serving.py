"""Seldon's target on an API server over HTTP, beside which an operator does with its objects what Seldon's does."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DeploymentError
from resources.kubernetes.labels import SPEC_SHA256, VERSION
from resources.lake.lake import Lake
from resources.serving.seldon_manifest import SELDON
from resources.serving.seldon_serving import Seldon
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kubernetes_api import ApiServer

OBJECTS = f"/apis/{SELDON.api_version}/namespaces/models/{SELDON.plural}"
DEPLOYMENTS = "/apis/apps/v1/namespaces/models/deployments"
BUDGETS = "/apis/policy/v1/namespaces/models/poddisruptionbudgets"


class Operated(dict[str, dict[str, Any]]):
    """The objects of an API server where an operator is: a SeldonDeployment has a Deployment of its pods, at once.

    Pods of the versions in `crashing` end with the code by which a predictor refuses its model.
    """

    crashing: frozenset[str] = frozenset()

    def __setitem__(self, path: str, item: dict[str, Any]) -> None:
        folder, _, name = path.rpartition("/")
        item = copy.deepcopy(item)
        if folder == OBJECTS:
            item["metadata"].setdefault("uid", f"uid-{name}")
            [predictor] = item["spec"]["predictors"]
            fails = item["metadata"]["annotations"][VERSION] in self.crashing
            status = "False" if fails else "True"
            conditions = [{"type": "Ready", "status": status}, {"type": "DeploymentsReady", "status": status}]
            item["status"] = {"conditions": conditions}
            self._pods(name, predictor, fails)
        super().__setitem__(path, item)

    def _pods(self, name: str, predictor: dict[str, Any], fails: bool) -> None:
        labels, annotations = {**predictor["labels"], SELDON.of_service: name}, predictor["annotations"]
        template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": []}}
        counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 2)
        super().__setitem__(
            f"{DEPLOYMENTS}/{SELDON.deployment(name)}",
            {
                "metadata": {"name": SELDON.deployment(name), "generation": 1},
                "spec": {"replicas": 2, "selector": {}, "template": template},
                "status": {"observedGeneration": 1, **counts},
            },
        )
        ended = {"exitCode": 65, "message": "its golden rows differ"}
        container = {"name": "predictor", "image": "i", "imageID": "i", "ready": not fails}
        container |= {"restartCount": 1, "lastState": {"terminated": ended}} if fails else {"restartCount": 0}
        super().__setitem__(
            f"/api/v1/namespaces/models/pods/{name}-1",
            {
                "metadata": {
                    "name": f"{name}-1",
                    "uid": f"uid-{name}-1",
                    "labels": labels,
                    "creationTimestamp": "2026-11-25T10:00:00Z",
                },
                "spec": {"containers": []},
                "status": {"phase": "Running", "containerStatuses": [container]},
            },
        )


class Doubling(Seldon):
    """All servers double what they are sent."""

    def post(self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        asked.append(url)
        [tensor] = body["inputs"]
        doubled = [2 * value for value in tensor["data"]]
        return {"outputs": [{"name": "prediction", "shape": tensor["shape"], "data": doubled}]}


asked: list[str] = []


@pytest.fixture
def cluster(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Operated:
    api_server.objects = objects = Operated()
    monkeypatch.setattr("resources.serving.seldon_serving.in_cluster", lambda: "models")
    asked.clear()
    return objects


@pytest.fixture
def target(cluster: Operated, tmp_path: Path) -> Seldon:
    return Doubling(lake=Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache")), image="image:1")


@pytest.fixture
def artifact(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / "artifact", write_artifact(tmp_path / "artifact").sha256


def test_a_version_is_proved_as_candidate_and_then_takes_the_models_own_object(
    target: Seldon, cluster: Operated, artifact: tuple[Path, str]
) -> None:
    proof = target.deploy("my_model", *artifact, 1)
    assert asked == [
        "http://my-model-candidate-default.models:8080/v2/models/my_model/infer",
        "http://my-model-default.models:8080/v2/models/my_model/infer",
    ]
    assert [path for path in cluster if path.startswith(OBJECTS)] == [f"{OBJECTS}/my-model"]
    assert cluster[f"{BUDGETS}/my-model"]["metadata"]["ownerReferences"][0]["uid"] == "uid-my-model"
    served = target.current("my_model")
    assert served is not None
    assert (served.version, served.sha256) == ("1", artifact[1])
    assert proof.example.startswith("kubectl port-forward -n models service/my-model-default 8080:8080 &\n")


def test_a_version_whose_pods_refuse_it_leaves_the_champion(
    target: Seldon, cluster: Operated, artifact: tuple[Path, str]
) -> None:
    target.deploy("my_model", *artifact, 1)
    before = cluster[f"{OBJECTS}/my-model"]["metadata"]["annotations"][SPEC_SHA256]
    cluster.crashing = frozenset({"2"})
    told = r"version 1 keeps answering: the SeldonDeployment my-model-candidate is not ready: .*its golden rows differ"
    with pytest.raises(DeploymentError, match=told):
        target.deploy("my_model", *artifact, 2)
    assert [path for path in cluster if path.startswith(OBJECTS)] == [f"{OBJECTS}/my-model"]
    assert cluster[f"{OBJECTS}/my-model"]["metadata"]["annotations"][SPEC_SHA256] == before


def test_what_is_served_already_needs_no_candidate_and_what_is_retired_is_gone(
    target: Seldon, cluster: Operated, artifact: tuple[Path, str]
) -> None:
    target.deploy("my_model", *artifact, 1)
    asked.clear()
    target.deploy("my_model", *artifact, 1)
    assert asked == ["http://my-model-default.models:8080/v2/models/my_model/infer"]
    assert target.served() == ["my_model"]
    target.retire("my_model")
    assert target.served() == []
    assert [path for path in cluster if path.startswith(OBJECTS)] == []


def test_the_operator_is_missing_where_the_api_server_does_not_know_its_kind(
    target: Seldon, api_server: ApiServer, artifact: tuple[Path, str]
) -> None:
    api_server.faults = [404] * 100
    with pytest.raises(DeploymentError, match="Kubernetes refuses the SeldonDeployment my-model-candidate"):
        target.deploy("my_model", *artifact, 1)
