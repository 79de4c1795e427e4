"""k8s/base/security/pods-of-dagster.yaml names the accounts that pods really get.

What the API server makes of the policies is in tests/cluster/test_pods_of_dagster.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from mlops_assets.assets.pod_template import op_tags, worker_pods
from mlops_assets.serving.declaration import ServedVersion
from resources.serving.kserve_manifest import inference_service
from resources.serving.service_settings import ServiceSettings
from tests.manifests import PROJECT, named, needs_kubectl, of_kind, rendered
from tests.support import TORCH, spec

pytestmark = needs_kubectl
PEOPLE = ("components:\n", "components:\n  - ../../components/alert-webhook\n  - ../../components/alert-mail\n")
DAGSTERS_CHART = (
    ("  - ../../base/dagster\n", ""),
    ("components:\n", "components:\n  - ../../components/dagster-chart\n"),
)
SELDON = (("components:\n", "components:\n  - ../../components/seldon\n"),)
POLICY = "ValidatingAdmissionPolicy"
STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")


def variables() -> dict[str, Any]:
    spec = named(rendered("production"), POLICY, "mlops-pods-of-dagster")["spec"]
    return {item["name"]: item["expression"] for item in spec["variables"]}


def test_accounts_of_runs_and_steps_are_those_that_are_allowed() -> None:
    instance = yaml.safe_load((PROJECT / "k8s/base/dagster/dagster.yaml").read_text())
    several = spec(train={**TORCH, "compute": {"workers": 2}})
    steps = {
        op_tags(model, stage)["dagster-k8s/config"]["pod_spec_config"]["service_account_name"]
        for model in (spec(), several)
        for stage in STAGES
    }
    allowed = json.loads(variables()["accounts"])
    assert set(allowed["dagster"]) == {instance["run_launcher"]["config"]["service_account_name"]}
    assert set(allowed["dagster-run"]) == steps
    assert allowed["dagster-trainer"] == [worker_pods(several).pod["service_account_name"]]


def test_who_makes_pods_is_who_may() -> None:
    objects = rendered("production")
    made = {"jobs", "pytorchjobs", "inferenceservices", "seldondeployments"}
    roles = {
        item["metadata"]["name"]
        for item in of_kind(objects, "Role")
        for rule in item["rules"]
        if made & {*rule["resources"]} and {"create", "*"} & {*rule["verbs"]}
    }
    makers = {
        subject["name"]
        for item in of_kind(objects, "RoleBinding")
        if item["roleRef"]["name"] in roles
        for subject in item["subjects"]
    }
    assert makers == json.loads(variables()["accounts"]).keys()


def test_nobody_changes_the_labels_of_a_suspended_job() -> None:
    assert not [
        item["metadata"]["name"]
        for item in of_kind(rendered("production"), "Role")
        for rule in item["rules"]
        if "jobs" in rule["resources"] and {"patch", "update", "*"} & {*rule["verbs"]}
    ]


def test_predictors_have_the_account_that_is_allowed() -> None:
    version, settings = ServedVersion.of(1, "0" * 64), ServiceSettings(looked_up=("temp",))
    item = inference_service("iris", "iris", version, "s3://b/p", "image", size=1, replicas=1, service=settings)
    accounts = [item["spec"][part]["serviceAccountName"] for part in ("predictor", "transformer")]
    assert json.loads(variables()["accounts"])["dagster-deployer"] == accounts


@pytest.mark.parametrize("chart", [(), DAGSTERS_CHART, SELDON], ids=["manifests", "chart", "seldon"])
def test_no_label_that_opens_a_way_is_forgotten(chart: tuple[tuple[str, str], ...]) -> None:
    """Every label by which a network policy or a Service knows pods is one that no step has, or one that all have."""
    objects = rendered("production", *chart)
    selectors = [item["spec"]["selector"] for item in of_kind(objects, "Service")]
    selectors += [
        peer["podSelector"].get("matchLabels", {})
        | {rule["key"]: "" for rule in peer["podSelector"].get("matchExpressions", [])}
        for item in of_kind(objects, "NetworkPolicy")
        for way in (*item["spec"].get("ingress", []), *item["spec"].get("egress", []), {"to": [item["spec"]]})
        for peer in (*way.get("from", []), *way.get("to", []))
        if "podSelector" in peer and "kube-system" not in json.dumps(peer)
    ]
    of_all = {"mlops.dev/uses-postgres", "mlops.dev/uses-mlflow", "app.kubernetes.io/component"}
    looked_at = {"app.kubernetes.io/name", "mlops.dev/stage", *json.loads(variables()["marks"])}
    assert {key for selector in selectors for key in selector} - of_all <= looked_at


def test_every_policy_is_bound_and_refuses() -> None:
    objects = rendered("production")
    bound = {
        item["spec"]["policyName"]: item["spec"]["validationActions"] for item in of_kind(objects, f"{POLICY}Binding")
    }
    assert bound == {item["metadata"]["name"]: ["Deny"] for item in of_kind(objects, POLICY)}


def test_no_secret_of_the_platform_is_forgotten() -> None:
    """Every Secret that the overlays make is either for runs and steps, or kept from them."""
    kept = set(json.loads(variables()["kept"]))
    made = {
        item["spec"].get("target", {}).get("name", item["metadata"]["name"])
        for overlay in ("staging", "production")
        for item in of_kind(rendered(overlay, PEOPLE), "ExternalSecret")
    }
    assert made - kept == {"dagster-postgresql", "mlflow-client", "features-database"}
    assert {"alert-webhook", "alert-mail"} <= made
