"""k8s/: every object is accepted, Pod Security and RBAC hold. In namespaces of these tests' own, beside what runs."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tests.cluster.cluster import K8S, overlay
from tests.cluster.kubectl import kubectl
from tests.cluster.platform import STAGES
from tests.cluster.waiting import SOON_S, wait_until
from tests.support import TORCH, spec

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ENVIRONMENTS = ("test", "staging", "production")
CRDS = Path(os.environ.get("MLOPS_CRDS", K8S.parent.parent / "shared" / "crds"))
CLUSTER_WIDE = {
    *("Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding", "NodePool", "EC2NodeClass"),
    *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
}
# What admission and authorization look at, so what must really be there
GROUNDWORK = {
    *("Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "PriorityClass"),
    *("ResourceQuota", "LimitRange", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
}


class Copy:
    """An environment's objects under names that nothing else in the cluster has."""

    def __init__(self, environment: str) -> None:
        self.suffix = f"-manifests-{secrets.token_hex(3)}"
        self.original = f"mlops-{environment}"
        self.namespace = self.original + self.suffix
        self.objects = [self._renamed(item) for item in overlay(environment)]
        for item in self.objects:
            if item["kind"] in CLUSTER_WIDE - {"Namespace"}:
                item["metadata"].pop("namespace", None)
                item["metadata"]["name"] += self.suffix

    def _renamed(self, node: Any) -> Any:
        """References to cluster-wide objects follow their new names."""
        if isinstance(node, list):
            return [self._renamed(item) for item in node]
        if not isinstance(node, dict):
            return self.namespace if node == self.original else node
        if node.get("kind") == "ClusterRole" and "apiGroup" in node:
            return {**node, "name": node["name"] + self.suffix}
        named = ("priorityClassName", "policyName")
        return {key: value + self.suffix if key in named else self._renamed(value) for key, value in node.items()}

    @property
    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each pod template, with the name of its owner."""
        for item in self.objects:
            template = item.get("spec", {}).get("template", {})
            if "containers" in template.get("spec", {}):
                claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])]
                volumes = [*template["spec"].get("volumes", []), *({"name": name, "emptyDir": {}} for name in claims)]
                yield item["metadata"]["name"], {**template, "spec": {**template["spec"], "volumes": volumes}}


@pytest.fixture(scope="module")
def crds() -> Iterator[None]:
    """All kinds that the manifests use; those which the cluster did not have are deleted again."""
    if not CRDS.is_dir():
        pytest.skip(f"no folder {CRDS} with CustomResourceDefinitions; name one in MLOPS_CRDS")
    present = set(kubectl("get", "crds", "-o", "name").split())
    groups = ("karpenter", "external-secrets", "prometheus-operator")
    files = [file for group in groups for file in (CRDS / group).glob("*.yaml")]
    made = []
    for file in files:
        name = kubectl("create", "--dry-run=client", "-o", "name", "-f", str(file)).strip()
        if name not in present:
            kubectl("apply", "--server-side", "-f", str(file))
            made.append(name)
    if made:
        kubectl("wait", "--for=condition=Established", "--timeout=30s", *made)
    yield
    if made:
        kubectl("delete", *made)


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest, crds: None) -> Iterator[Copy]:
    """An environment of which accounts, rights and limits exist, and nothing runs."""
    copy = Copy(request.param)
    groundwork = as_list([item for item in copy.objects if item["kind"] in GROUNDWORK])
    try:
        kubectl("create", "-f", "-", stdin=groundwork)
        yield copy
    finally:
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=groundwork)


def as_list(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def admit(namespace: str, pod: dict[str, Any], name: str = "probe") -> subprocess.CompletedProcess[str]:
    """Ask the API server for a pod, and for what it would make of it, without making it."""
    metadata = {**pod.get("metadata", {}), "name": name, "namespace": namespace}
    body = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]})
    command = ["kubectl", "create", "--dry-run=server", "-o", "json", "-f", "-"]
    return subprocess.run(command, input=body, text=True, capture_output=True, check=False)


def test_the_api_server_accepts_every_object(environment: Copy) -> None:
    command = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "name", "-f", "-"]
    accepted = kubectl(*command, stdin=as_list(environment.objects)).split()
    assert len(accepted) == len(environment.objects)


def test_admission_takes_every_pod(environment: Copy) -> None:
    for name, pod in environment.pods:
        answer = admit(environment.namespace, pod, name)
        assert answer.returncode == 0, f"{name}: {answer.stderr}"
        assert "Warning" not in answer.stderr, f"{name}: {answer.stderr}"


@pytest.mark.parametrize(
    ("pod", "container", "reason"),
    [
        ({}, {"securityContext": {"privileged": True}}, "privileged"),
        ({}, {}, "allowPrivilegeEscalation != false"),
        ({"hostNetwork": True}, {}, "host namespaces"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, {}, "hostPath"),
        ({"securityContext": {"runAsUser": 0}}, {}, "runAsNonRoot != true"),
    ],
)
def test_admission_refuses_pods_that_could_leave_their_box(
    environment: Copy, pod: dict[str, Any], container: dict[str, Any], reason: str
) -> None:
    spec = {**pod, "containers": [{"name": "c", "image": "busybox", **container}]}
    answer = admit(environment.namespace, {"spec": {"serviceAccountName": "dagster-step", **spec}})
    assert answer.returncode != 0
    assert 'violates PodSecurity "restricted' in answer.stderr
    assert reason in answer.stderr


def test_every_container_is_bounded_and_observed(environment: Copy) -> None:
    for name, pod in environment.pods:
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"], name
            assert {"startupProbe", "readinessProbe"} & set(container), name
            assert container["imagePullPolicy"] == "IfNotPresent", name
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
        # MLFLOW_PORT and its like would be set for every Service
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_no_pod_has_a_token_without_need(environment: Copy) -> None:
    accounts = {item["metadata"]["name"]: item for item in environment.objects if item["kind"] == "ServiceAccount"}
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    with_token = {name for name, pod in environment.pods if pod["spec"]["automountServiceAccountToken"]}
    assert with_token == {"dagster-code", "dagster-daemon", "dagster-webserver"}


def test_nothing_is_reached_from_outside_and_mlflow_asks_who_is_there(environment: Copy) -> None:
    kinds = {item["kind"] for item in environment.objects}
    assert not kinds & {"Ingress", "HTTPRoute", "Gateway"}
    services = [item["spec"] for item in environment.objects if item["kind"] == "Service"]
    assert {service.get("type", "ClusterIP") for service in services} == {"ClusterIP"}
    [server] = [pod["spec"]["containers"][0] for name, pod in environment.pods if name == "mlflow"]
    assert ("--app-name=basic-auth" in server["args"]) is (environment.original != "mlops-test")


def test_run_and_step_pods_have_the_code_locations_image(environment: Copy) -> None:
    [code] = [pod["spec"]["containers"][0] for name, pod in environment.pods if name == "dagster-code"]
    variables = {variable["name"]: variable.get("value") for variable in code["env"]}
    assert variables["DAGSTER_CURRENT_IMAGE"] == code["image"] != "mlops-assets"
    [settings] = [item["data"] for item in environment.objects if item["metadata"]["name"] == "mlops-environment"]
    assert settings["MLOPS_PREDICTOR_IMAGE"].endswith(code["image"].partition("mlops-assets")[2])


# ---- the pods that Dagster makes ----
def launcher() -> Any:
    """The run launcher of base/dagster/dagster.yaml, whose fields Dagster checks when it is made."""
    from dagster._core.instance.ref import InstanceRef

    values = {"DAGSTER_PG_PASSWORD": "p", "DAGSTER_PG_HOST": "h", "MLOPS_BUCKET": "b", "MLOPS_NAMESPACE": "n"}
    with patch.dict(os.environ, values), patch("kubernetes.config.load_incluster_config"):
        reference = InstanceRef.from_dir(str(K8S / "base" / "dagster"))
        assert reference.run_coordinator
        assert reference.compute_logs_data.config_yaml
        return reference.run_launcher


def dagster_job(component: str, *layers: dict[str, Any]) -> dict[str, Any]:
    """The specification of the Job that dagster-k8s makes of the launcher's configuration and what goes over it."""
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
    from kubernetes import client as untyped

    client: Any = untyped
    made_by = launcher()
    configuration: dict[str, Any] = {
        "env_config_maps": made_by.env_config_maps,
        "labels": dict(made_by.labels),
        "resources": made_by.resources,
        "volumes": made_by.volumes,
        "volume_mounts": made_by.volume_mounts,
        "security_context": made_by.security_context,
        "service_account_name": made_by.service_account_name,
        "run_k8s_config": UserDefinedDagsterK8sConfig.from_dict(made_by.run_k8s_config),
    }
    context = K8sContainerContext(**configuration)
    for layer in layers:
        context = context.merge(K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(layer)))
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config("mlops-assets", made_by),
        args=[],
        job_name="job",
        user_defined_k8s_config=context.run_k8s_config,
        component=component,
    )
    return client.ApiClient().sanitize_for_serialization(job)["spec"]


def dagster_pod(component: str, *layers: dict[str, Any]) -> dict[str, Any]:
    """The pod of such a Job."""
    return dagster_job(component, *layers)["template"]


def existing(pod: dict[str, Any], copy: Copy) -> dict[str, Any]:
    """The pod with the priority class of the copy."""
    return {**pod, "spec": {**pod["spec"], "priorityClassName": pod["spec"]["priorityClassName"] + copy.suffix}}


def test_admission_takes_run_pods_and_the_pods_of_all_stages(environment: Copy) -> None:
    from mlops_assets.assets.pods import op_tags
    from resources.kubernetes.pod_executor import STEP_POD

    model = spec(train={**TORCH, "compute": {"gpu": 1}})
    pods = {"run": dagster_pod("run_worker")}
    for stage in STAGES:
        pods[stage] = dagster_pod("step_worker", STEP_POD, op_tags(model, stage)["dagster-k8s/config"])
    for stage, pod in pods.items():
        answer = admit(environment.namespace, existing(pod, environment))
        assert answer.returncode == 0, f"{stage}: {answer.stderr}"
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], stage
    assert pods["run"]["spec"]["serviceAccountName"] == "dagster-run"
    assert pods["features"]["spec"]["serviceAccountName"] == "dagster-step"
    assert pods["trained_model"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_steps_job_makes_one_pod_and_stays_longer_than_anybody_looks() -> None:
    from resources.kubernetes.pod_executor import STEP_POD

    job = dagster_job("step_worker", STEP_POD)
    assert job["backoffLimit"] == 0
    assert job["podFailurePolicy"]["rules"][0]["action"] == "FailJob"
    assert job["ttlSecondsAfterFinished"] >= 3600
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_the_training_operators_own_container_becomes_admissible(environment: Copy) -> None:
    pod = existing(
        dagster_pod("step_worker", {"pod_spec_config": {"service_account_name": "dagster-step"}}), environment
    )
    pod["metadata"]["labels"]["training.kubeflow.org/job-name"] = "job"
    pod["spec"]["initContainers"] = [{"name": "init-pytorch", "image": "docker.io/library/alpine:3.10"}]

    def admitted() -> str:
        answer = admit(environment.namespace, pod)
        return answer.stdout if answer.returncode == 0 else ""

    # The API server takes a moment to learn a new policy
    made = json.loads(wait_until(admitted, SOON_S, "a pod of the Training Operator is admitted"))
    assert made["spec"]["initContainers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# ---- RBAC ----
LAUNCHER = {
    "jobs.batch": "create get list watch delete patch",
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
    "dagster-step": {},
    "dagster-deployer": {
        "inferenceservices.serving.kserve.io": "get list create patch update delete",
        "deployments.apps": "get",
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
    "mlflow": {},
    "postgres": {},
    "predictor": {},
    "default": {},
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
RESOURCES = (
    *("pods", "pods/log", "pods/exec", "pods/attach", "pods/portforward", "pods/eviction", "pods/ephemeralcontainers"),
    *("secrets", "configmaps", "services", "events", "resourcequotas", "persistentvolumeclaims", "namespaces", "nodes"),
    *("serviceaccounts", "serviceaccounts/token", "nodes/proxy", "jobs.batch", "jobs.batch/status", "cronjobs.batch"),
    *("deployments.apps", "statefulsets.apps", "daemonsets.apps", "networkpolicies.networking.k8s.io"),
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
