"""k8s/base/security/pods-of-dagster.yaml: which account, Secrets and labels a pod may have, by who makes it."""

from __future__ import annotations

import copy
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.serving.declaration import ServedVersion
from resources.serving.kserve_manifest import inference_service
from resources.serving.service_settings import ServiceSettings
from tests.cluster.environment_copy import as_list
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import SOON_S, wait_until

if TYPE_CHECKING:
    from tests.cluster.environment_copy import Copy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
MAY_MAKE = {
    "dagster": {"dagster-run"},
    "dagster-run": {"dagster-step", "dagster-deployer", "dagster-trainer"},
}
ACCOUNTS = (
    *("default", "dagster", "dagster-webserver", "dagster-run", "dagster-step", "dagster-deployer", "dagster-trainer"),
    *("mlflow", "postgres", "predictor", "transformer", "external-secrets"),
)
REFUSED = "denied request: "


def made_by(account: str | None, namespace: str, *items: dict[str, Any]) -> str:
    """What the API server says when an account, or the cluster's administrator, makes objects; it makes nothing."""
    command = ["kubectl", "create", "--dry-run=server", "-o", "name", "-n", namespace, "-f", "-"]
    if account:
        command += [f"--as=system:serviceaccount:{namespace}:{account}", "--as-group=system:serviceaccounts"]
    answer = subprocess.run(command, input=as_list([*items]), text=True, capture_output=True, check=False)
    return answer.stdout + answer.stderr


def pod_spec(account: str | None, **more: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "c", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
    spec = {"containers": [container | more.pop("container", {})], "restartPolicy": "Never", **more}
    return spec if account is None else spec | {"serviceAccountName": account}


def job(account: str | None, labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    spec = {"template": {"metadata": {"labels": labels or {}}, "spec": pod_spec(account, **more)}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe"}, "spec": spec}


def training(account: str | None, labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Its master is as it should be, and its workers are as they are wanted."""
    wanted = {"Master": (pod_spec("dagster-step"), {}), "Worker": (pod_spec(account, **more), labels or {})}
    replicas = dict[str, Any]()
    for kind, (spec, marks) in wanted.items():
        spec["containers"][0]["name"] = "pytorch"
        replicas[kind] = {"replicas": 1, "template": {"metadata": {"labels": marks}, "spec": spec}}
    metadata = {"name": "probe"}
    specification = {"pytorchReplicaSpecs": replicas}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": metadata, "spec": specification}


def endpoint(labels: dict[str, str] | None = None, **predictor: Any) -> dict[str, Any]:
    version = ServedVersion.of(1, "0" * 64)
    item = inference_service("probe", "iris", version, "s3://bucket/prefix", "image", size=1, replicas=1)
    item["metadata"]["labels"] |= labels or {}
    item["spec"]["predictor"]["containers"][0] |= predictor.pop("container", {})
    item["spec"]["predictor"] |= predictor
    return item


@pytest.fixture(scope="module")
def enforced(environment: Copy) -> Copy:
    """The environment, once the API server goes by its policies, which takes it a moment."""
    wait_until(
        lambda: REFUSED in made_by("dagster", environment.namespace, job("default")), SOON_S, "policies are enforced"
    )
    return environment


@pytest.mark.parametrize("maker", MAY_MAKE)
def test_an_account_makes_only_pods_of_the_accounts_it_needs(enforced: Copy, maker: str) -> None:
    accepted = {
        account
        for account in (None, *ACCOUNTS)
        if "job.batch/probe" in made_by(maker, enforced.namespace, job(account))
    }
    assert accepted == MAY_MAKE[maker]


def test_the_refusal_says_who_may_not_do_what(enforced: Copy) -> None:
    answer = made_by("dagster-run", enforced.namespace, job("external-secrets"))
    assert "the account dagster-run may not make pods of the account external-secrets" in answer


def from_secret(name: str) -> list[dict[str, Any]]:
    """Every place of a pod where a Secret may stand."""
    reference, variable = {"secretRef": {"name": name}}, {"secretKeyRef": {"name": name, "key": "k"}}
    volumes: list[dict[str, Any]] = [
        {"secret": {"secretName": name}},
        {"projected": {"sources": [{"secret": {"name": name}}]}},
        {"csi": {"driver": "d", "nodePublishSecretRef": {"name": name}}},
    ]
    return [
        {"container": {"envFrom": [reference]}},
        {"container": {"env": [{"name": "A", "valueFrom": variable}]}},
        {"initContainers": [{"name": "i", "image": "i", "envFrom": [reference], "resources": {}}]},
        *({"volumes": [{"name": "v", **volume}]} for volume in volumes),
    ]


KEPT = ("mlflow-database", "mlflow-auth", "postgres", "dagster-login", "alert-webhook", "alert-mail")
DATA = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data-postgres-0"}}]}
MAKERS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "dagster": ("dagster-run", job, ("inference-log",)),
    "dagster-run": ("dagster-step", job, ("inference-log",)),
    "dagster-trainer": ("dagster-step", training, ("inference-log",)),
    "dagster-deployer": ("predictor", lambda _, **more: endpoint(**more), ("dagster-postgresql", "mlflow-client")),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_no_pod_gets_a_secret_of_the_platform_or_its_data(enforced: Copy, maker: str) -> None:
    account, made, others = MAKERS[maker]
    names = [{"container": {"envFrom": [{"secretRef": {"name": name}}]}} for name in (*KEPT, *others)]
    pods = [made(account, **more) for more in (DATA, *from_secret("postgres"), *names)]
    answer = made_by(maker, enforced.namespace, *pods)
    assert answer.count(f"no pod of {maker} gets PostgreSQL's data") == len(pods), answer


@pytest.mark.parametrize("maker", MAKERS)
def test_no_pod_takes_the_room_of_what_keeps_the_cluster_up(enforced: Copy, maker: str) -> None:
    account, made, _ = MAKERS[maker]
    answer = made_by(maker, enforced.namespace, made(account, priorityClassName="system-node-critical"))
    assert f"no pod of {maker} has a priority class of Kubernetes itself" in answer


MARKS = [
    {"mlops.dev/authenticates": "operators"},
    {"app": "isvc.iris-predictor"},
    {"component": "dagster-webserver"},
    {"serving.kserve.io/inferenceservice": "iris"},
    {"training.kubeflow.org/job-name": "another"},
    *({"app.kubernetes.io/name": name} for name in ("postgres", "mlflow", "dagster-code", "dagster-webserver")),
    {"app.kubernetes.io/component": "step_worker", "mlops.dev/stage": "deployment"},
]


@pytest.mark.parametrize("maker", MAKERS)
def test_no_pod_passes_for_another_part_of_the_platform(enforced: Copy, maker: str) -> None:
    account, made, _ = MAKERS[maker]
    answer = made_by(maker, enforced.namespace, *(made(account, labels=labels) for labels in MARKS))
    assert answer.count(f"no pod of {maker} is labelled as another part") == len(MARKS), answer


def test_a_predictors_own_labels_are_looked_at_too(enforced: Copy) -> None:
    answer = made_by("dagster-deployer", enforced.namespace, endpoint())
    assert "inferenceservice.serving.kserve.io/probe" in answer
    item = endpoint()
    item["spec"]["predictor"]["labels"]["mlops.dev/authenticates"] = "viewers"
    assert "no pod of dagster-deployer is labelled" in made_by("dagster-deployer", enforced.namespace, item)


def test_a_deployment_step_is_labelled_as_one(enforced: Copy) -> None:
    labels = {"app.kubernetes.io/component": "step_worker", "mlops.dev/stage": "deployment"}
    item = job("dagster-deployer", {**labels, "app.kubernetes.io/name": "dagster", "team": "ours"})
    assert "job.batch/probe" in made_by("dagster-run", enforced.namespace, item)


def test_steps_get_the_secrets_they_work_with(enforced: Copy) -> None:
    names = ("mlflow-client", "lake-credentials", "a-source-of-the-users")
    container = {
        "envFrom": [{"secretRef": {"name": name, "optional": True}} for name in names],
        "env": [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    }
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "c", "configMap": {"name": "dagster-instance"}}]
    item = job("dagster-step", container=container, volumes=volumes)
    assert "job.batch/probe" in made_by("dagster-run", enforced.namespace, item)


def test_workers_have_the_account_of_steps(enforced: Copy) -> None:
    trainer, namespace = "dagster-trainer", enforced.namespace
    assert "pytorchjob.kubeflow.org/probe" in made_by(trainer, namespace, training("dagster-step"))
    for account in (None, "dagster-trainer", "external-secrets"):
        assert REFUSED in made_by(trainer, namespace, training(account)), account


def test_an_endpoint_is_a_predictor_with_its_own_account(enforced: Copy) -> None:
    deployer, namespace = "dagster-deployer", enforced.namespace
    assert "inferenceservice.serving.kserve.io/probe" in made_by(deployer, namespace, endpoint())
    assert REFUSED in made_by(deployer, namespace, endpoint(serviceAccountName="dagster-deployer"))


CONTAINERS = [{"name": "kserve-container", "image": "t"}]
STORED = {"modelFormat": {"name": "onnx"}, "storageUri": "s3://bucket/prefix"}


def test_an_endpoint_has_no_explainer(enforced: Copy) -> None:
    item = endpoint()
    item["spec"]["explainer"] = {"containers": CONTAINERS}
    assert REFUSED in made_by("dagster-deployer", enforced.namespace, item)


def test_a_transformer_has_its_own_account_and_is_looked_at_like_a_predictor(enforced: Copy) -> None:
    version, settings = ServedVersion.of(1, "0" * 64), ServiceSettings(looked_up=("temp",))
    item = inference_service("probe", "iris", version, "s3://b/p", "image", size=1, replicas=1, service=settings)
    deployer, namespace = "dagster-deployer", enforced.namespace
    assert "inferenceservice.serving.kserve.io/probe" in made_by(deployer, namespace, item)
    secret = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "password"}}}]
    for change in ({"serviceAccountName": "dagster-run"}, {"containers": [CONTAINERS[0] | {"env": secret}]}):
        changed = copy.deepcopy(item)
        changed["spec"]["transformer"] |= change
        assert REFUSED in made_by(deployer, namespace, changed), change


def test_a_deployment_step_deletes_what_kserve_has_made_alone(enforced: Copy) -> None:
    """Of Services that are there: of none, the API server says so before it asks a policy."""
    namespace, made_of = enforced.namespace, {"serving.kserve.io/inferenceservice": "probe"}
    for name, labels in (("probe-transformer", made_of), ("dagster-webserver", {})):
        metadata, spec = {"name": name, "labels": labels}, {"ports": [{"port": 80}]}
        item = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(item))
    command = ["kubectl", "delete", "service", "-n", namespace, "probe-transformer", "dagster-webserver"]
    command += [f"--as=system:serviceaccount:{namespace}:dagster-deployer", "--as-group=system:serviceaccounts"]
    answer = subprocess.run(command, text=True, capture_output=True, check=False)
    assert 'service "probe-transformer" deleted' in answer.stdout
    assert "KServe has not made dagster-webserver" in answer.stderr


@pytest.mark.parametrize(
    "predictor",
    [
        {"workerSpec": {"serviceAccountName": "external-secrets", "containers": CONTAINERS}},
        {"model": STORED},
        {"model": STORED, "containers": []},
        {"sklearn": {"envFrom": [{"secretRef": {"name": "postgres"}}]}},
        {"sklearn": STORED, "containers": []},
    ],
    ids=["workers", "model beside", "model", "server beside", "server"],
)
def test_an_endpoint_has_no_server_of_kserves_own(enforced: Copy, predictor: dict[str, Any]) -> None:
    answer = made_by("dagster-deployer", enforced.namespace, endpoint(**predictor))
    assert "inferenceservice.serving.kserve.io/probe" not in answer


def test_people_with_rights_are_not_asked(enforced: Copy) -> None:
    assert "job.batch/probe" in made_by(None, enforced.namespace, job("external-secrets"))


def test_policies_compile_against_the_kinds_they_are_for(enforced: Copy) -> None:
    """The API server's own check of the expressions' types."""
    names = [item["metadata"]["name"] for item in enforced.objects if item["kind"] == "ValidatingAdmissionPolicy"]
    for name in names:
        policy = json.loads(kubectl("get", "validatingadmissionpolicy", name, "-o", "json"))
        assert not policy["status"].get("typeChecking", {}).get("expressionWarnings"), name
