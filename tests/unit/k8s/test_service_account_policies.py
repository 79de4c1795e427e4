"""k8s/base/security/service-account-policies.yaml names the accounts that pods really get.

What the API server makes of the policies is in tests/cluster/test_service_account_policies.py.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from mlops_assets.assets.pod_template import op_tags, worker_pods
from mlops_assets.serving.declaration import ServedVersion
from resources.serving.kserve_manifest import inference_service
from tests.manifests import PROJECT, named, needs_kubectl, of_kind, rendered
from tests.support import TORCH, spec

pytestmark = needs_kubectl
WEBHOOK = ("components:\n", "components:\n  - ../../components/alert-webhook\n")
POLICY = "ValidatingAdmissionPolicy"
STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")


def variables(policy: str) -> dict[str, Any]:
    spec = named(rendered("production"), POLICY, policy)["spec"]
    return {item["name"]: item["expression"] for item in spec["variables"]}


def test_accounts_of_runs_and_steps_are_those_that_are_allowed() -> None:
    instance = yaml.safe_load((PROJECT / "k8s/base/dagster/dagster.yaml").read_text())
    several = spec(train={**TORCH, "compute": {"workers": 2}})
    steps = {
        op_tags(model, stage)["dagster-k8s/config"]["pod_spec_config"]["service_account_name"]
        for model in (spec(), several)
        for stage in STAGES
    }
    allowed = json.loads(variables("mlops-accounts-of-jobs")["accounts"])
    assert set(allowed["dagster"]) == {instance["run_launcher"]["config"]["service_account_name"]}
    assert set(allowed["dagster-run"]) == steps
    assert worker_pods(several).pod["service_account_name"] == "dagster-step"


def test_who_makes_jobs_is_who_may() -> None:
    objects = rendered("production")
    roles = {
        item["metadata"]["name"]
        for item in of_kind(objects, "Role")
        for rule in item["rules"]
        if "jobs" in rule["resources"] and {"create", "*"} & set(rule["verbs"])
    }
    makers = {
        subject["name"]
        for item in of_kind(objects, "RoleBinding")
        if item["roleRef"]["name"] in roles
        for subject in item["subjects"]
    }
    assert makers == json.loads(variables("mlops-accounts-of-jobs")["accounts"]).keys()


def test_predictors_have_the_account_that_is_allowed() -> None:
    item = inference_service(
        "iris", "iris", ServedVersion.of(1, "0" * 64), "s3://bucket/prefix", "image", size=1, replicas=1
    )
    account = item["spec"]["predictor"]["serviceAccountName"]
    [rule] = named(rendered("production"), POLICY, "mlops-accounts-of-predictors")["spec"]["validations"]
    assert f'== "{account}"' in rule["expression"]


def test_every_policy_is_bound_and_refuses() -> None:
    objects = rendered("production")
    bound = {
        item["spec"]["policyName"]: item["spec"]["validationActions"] for item in of_kind(objects, f"{POLICY}Binding")
    }
    assert bound == {item["metadata"]["name"]: ["Deny"] for item in of_kind(objects, POLICY)}


def test_no_secret_of_the_platform_is_forgotten() -> None:
    """Every Secret that the overlays make is either for runs and steps, or kept from them."""
    kept = set(json.loads(variables("mlops-accounts-of-jobs")["kept"]))
    made = {
        item["spec"].get("target", {}).get("name", item["metadata"]["name"])
        for overlay in ("staging", "production")
        for item in of_kind(rendered(overlay, WEBHOOK), "ExternalSecret")
    }
    assert made - kept == {"dagster-postgresql", "mlflow-client"}
    assert "alert-webhook" in made
