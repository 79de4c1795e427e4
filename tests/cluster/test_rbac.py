"""What the service accounts of k8s/ may do, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.cluster import overlay

if TYPE_CHECKING:
    from tests.cluster.environment_copy import Copy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LAUNCHER = {
    "jobs.batch": "create get list watch delete",
    "jobs.batch/status": "get",
    "pods": "get list watch delete",
    "pods/log": "get",
    "events": "get list",
    "resourcequotas": "get list",
}
NODES = {"nodes": "get list", "nodeclaims.karpenter.sh": "get list", "nodepools.karpenter.sh": "get list"}
ALLOWED: dict[str, dict[str, str]] = {
    "dagster": LAUNCHER,
    "dagster-run": LAUNCHER | NODES,
    "dagster-webserver": {"jobs.batch": "get delete", "pods": "get list delete"},
    "dagster-webserver-read-only": {},
    "dagster-step": {},
    "dagster-deployer": {
        "inferenceservices.serving.kserve.io": "get list create patch delete",
        "poddisruptionbudgets.policy": "create patch",
        "httproutes.gateway.networking.k8s.io": "create patch delete",
        "securitypolicies.gateway.envoyproxy.io": "create patch delete",
        "backendtrafficpolicies.gateway.envoyproxy.io": "create patch delete",
        "horizontalpodautoscalers.autoscaling": "delete",
        "scaledobjects.keda.sh": "delete",
        "deployments.apps": "get delete",
        "services": "delete",
        "pods": "get list",
        "pods/log": "get",
        "events": "list",
    },
    "dagster-trainer": NODES
    | {
        "pytorchjobs.kubeflow.org": "get list watch create delete",
        "pods": "get list watch",
        "pods/log": "get",
        "events": "list",
    },
    "exporter": {},
    "mlflow": {},
    "postgres": {},
    "predictor": {},
    "transformer": {},
    "default": {},
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
RESOURCES = (
    *("pods", "pods/log", "pods/exec", "pods/attach", "pods/portforward", "pods/eviction", "pods/ephemeralcontainers"),
    *("secrets", "configmaps", "services", "events", "resourcequotas", "persistentvolumeclaims", "namespaces", "nodes"),
    *("serviceaccounts", "serviceaccounts/token", "nodes/proxy", "jobs.batch", "jobs.batch/status", "cronjobs.batch"),
    *("deployments.apps", "statefulsets.apps", "daemonsets.apps", "networkpolicies.networking.k8s.io"),
    *("httproutes.gateway.networking.k8s.io", "securitypolicies.gateway.envoyproxy.io"),
    "backendtrafficpolicies.gateway.envoyproxy.io",
    *("poddisruptionbudgets.policy", "horizontalpodautoscalers.autoscaling", "scaledobjects.keda.sh"),
    *("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io"),
    *("clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io"),
    *("inferenceservices.serving.kserve.io", "pytorchjobs.kubeflow.org"),
    *("nodeclaims.karpenter.sh", "nodepools.karpenter.sh", "externalsecrets.external-secrets.io"),
)


def rights(account: str, home: str, namespace: str) -> set[tuple[str, str]]:
    """What an account of namespace `home` may do in a namespace, as SubjectAccessReviews tell."""
    from kubernetes import client as untyped
    from kubernetes import config

    client: Any = untyped
    config.load_kube_config()
    api = client.AuthorizationV1Api()
    found = set()
    for resource in RESOURCES:
        whole, _, subresource = resource.partition("/")
        name, _, group = whole.partition(".")
        for verb in VERBS:
            attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name}
            review = client.V1SubjectAccessReview(
                spec=client.V1SubjectAccessReviewSpec(
                    user=f"system:serviceaccount:{home}:{account}",
                    groups=["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"],
                    resource_attributes=client.V1ResourceAttributes(**attributes, subresource=subresource or None),
                )
            )
            if api.create_subject_access_review(review).status.allowed:
                found.add((verb, resource))
    return found


def pairs(table: dict[str, str]) -> set[tuple[str, str]]:
    return {(verb, resource) for resource, verbs in table.items() for verb in verbs.split()}


@pytest.mark.parametrize("environment", ["test"], indirect=True)
@pytest.mark.parametrize("account", ALLOWED)
def test_accounts_may_do_what_they_need_and_nothing_else(environment: Copy, account: str) -> None:
    home = environment.namespace
    assert rights(account, home, home) == pairs(ALLOWED[account])
    cluster_wide = pairs(NODES) if account in ("dagster-run", "dagster-trainer") else set()
    assert rights(account, home, "kube-system") == cluster_wide


def test_all_environments_grant_the_same() -> None:
    kinds = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}

    def granted(environment: str) -> str:
        text = json.dumps([item for item in overlay(environment) if item["kind"] in kinds])
        return text.replace(f"mlops-{environment}", "mlops")

    assert granted("test") == granted("staging") == granted("production")


def test_all_accounts_are_in_the_table(environment: Copy) -> None:
    accounts = {item["metadata"]["name"] for item in environment.objects if item["kind"] == "ServiceAccount"}
    assert accounts <= {*ALLOWED, "moto", "external-secrets"}
