"""k8s/components/seldon: what an environment needs that serves by Seldon, and what its operator's pods are let do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlops_assets.serving.declaration import ServedVersion
from resources.environment import Environment
from resources.serving.kserve_manifest import KSERVE
from resources.serving.seldon_manifest import SELDON, predictor_service, seldon_deployment
from tests.manifests import named, needs_kubectl, of_kind, rendered
from tests.network_policies import selects

pytestmark = needs_kubectl
WITH_SELDON = ("  - ../../components/eks\n", "  - ../../components/seldon\n  - ../../components/eks\n")
ENVIRONMENTS = ("staging", "production", "team-b")
CALLER = {"app.kubernetes.io/component": "step_worker", "mlops.dev/stage": "deployment"}


def objects(overlay: str) -> list[dict[str, Any]]:
    return rendered(overlay, WITH_SELDON)


def pod() -> dict[str, str]:
    """The labels of a predictor's pods, as the operator gives them."""
    version = ServedVersion.of(1, "0" * 64)
    made = seldon_deployment("iris", "iris", version, "s3://b/p", "image", size=1, replicas=1)
    names = {SELDON.of_service: "iris", "seldon-app": predictor_service("iris"), "app": SELDON.deployment("iris")}
    return made["spec"]["predictors"][0]["labels"] | names


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_programs_deploy_to_seldon(overlay: str) -> None:
    for item in of_kind(objects(overlay), "ConfigMap"):
        if "MLOPS_ENV" in item.get("data", {}):
            given = item["data"] | {"MLOPS_TRAINER_IMAGE": "trainer:1"}
            assert Environment.read(given).serving_operator == "seldon"


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_the_deployment_step_may_do_what_its_target_asks_of_the_api(overlay: str) -> None:
    [rule] = named(objects(overlay), "Role", "dagster-deployer-seldon")["rules"]
    group, _, _ = SELDON.api_version.partition("/")
    assert (rule["apiGroups"], rule["resources"]) == ([group], [SELDON.plural])
    assert set(rule["verbs"]) == {"get", "list", "create", "patch", "delete"}
    [subject] = named(objects(overlay), "RoleBinding", "dagster-deployer-seldon")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "dagster-deployer", "namespace": f"mlops-{overlay}"}


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_predictors_are_asked_by_deployment_steps_and_by_namespaces_that_were_let_in(overlay: str) -> None:
    predictors = named(objects(overlay), "NetworkPolicy", "seldon-predictors")["spec"]
    assert selects(predictors["podSelector"], pod())
    assert not selects(predictors["podSelector"], CALLER)
    kserve = named(objects(overlay), "NetworkPolicy", "predictors")["spec"]
    assert (
        json.loads(json.dumps(kserve["ingress"]).replace(KSERVE.of_service, SELDON.of_service)) == predictors["ingress"]
    )
    # The champion's pods send a candidate its share
    for name, source in (("seldon-predictor-callers", CALLER), ("seldon-predictors-call-candidates", pod())):
        callers = named(objects(overlay), "NetworkPolicy", name)["spec"]
        assert selects(callers["podSelector"], source)
        [rule] = callers["egress"]
        # The Service's own selector, by which Amazon's VPC CNI opens its address
        assert selects(rule["to"][0]["podSelector"], {"seldon-app": predictor_service("iris")})


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_the_policy_of_all_pods_judges_its_pods(overlay: str) -> None:
    name = "team-b-mlops-pods-of-dagster" if overlay == "team-b" else "mlops-pods-of-dagster"
    rules = named(objects(overlay), "ValidatingAdmissionPolicy", name)["spec"]["matchConstraints"]["resourceRules"]
    assert SELDON.plural in {resource for rule in rules for resource in rule["resources"]}
