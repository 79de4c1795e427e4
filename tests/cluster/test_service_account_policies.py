"""k8s/base/security/service-account-policies.yaml: which service account a pod may have, by who makes it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.serving.declaration import ServedVersion
from resources.serving.kserve_manifest import inference_service
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
    *("mlflow", "postgres", "predictor", "external-secrets"),
)
REFUSED = "denied request: "


def made_by(account: str | None, namespace: str, item: dict[str, Any]) -> str:
    """What the API server says when an account, or the cluster's administrator, makes an object; it makes nothing."""
    command = ["kubectl", "create", "--dry-run=server", "-o", "name", "-n", namespace, "-f", "-"]
    if account:
        command += [f"--as=system:serviceaccount:{namespace}:{account}", "--as-group=system:serviceaccounts"]
    answer = subprocess.run(command, input=json.dumps(item), text=True, capture_output=True, check=False)
    return answer.stdout + answer.stderr


def pod_spec(account: str | None, **more: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "c", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
    spec = {"containers": [container | more.pop("container", {})], "restartPolicy": "Never", **more}
    return spec if account is None else spec | {"serviceAccountName": account}


def job(account: str | None, **more: Any) -> dict[str, Any]:
    spec = {"template": {"spec": pod_spec(account, **more)}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe"}, "spec": spec}


def training(account: str | None) -> dict[str, Any]:
    spec = pod_spec(account)
    spec["containers"][0]["name"] = "pytorch"
    replicas = {kind: {"replicas": 1, "template": {"spec": spec}} for kind in ("Master", "Worker")}
    metadata = {"name": "probe"}
    specification = {"pytorchReplicaSpecs": replicas}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": metadata, "spec": specification}


def endpoint(**predictor: Any) -> dict[str, Any]:
    version = ServedVersion.of(1, "0" * 64)
    item = inference_service("probe", "iris", version, "s3://bucket/prefix", "image", size=1, replicas=1)
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


@pytest.mark.parametrize(
    "more",
    [
        {"container": {"envFrom": [{"secretRef": {"name": "mlflow-auth"}}]}},
        {"container": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "k"}}}]}},
        {"volumes": [{"name": "v", "secret": {"secretName": "mlflow-database"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "dagster-login"}}]}}]},
        {
            "initContainers": [
                {"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "mlflow-auth"}}], "resources": {}}
            ]
        },
    ],
)
def test_no_step_gets_a_secret_of_the_platform(enforced: Copy, more: dict[str, Any]) -> None:
    answer = made_by("dagster-run", enforced.namespace, job("dagster-step", **more))
    assert REFUSED in answer
    assert "no run and no step gets one of the Secrets" in answer


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
    other = endpoint()
    other["spec"]["transformer"] = {"containers": [{"name": "kserve-container", "image": "t"}]}
    assert REFUSED in made_by(deployer, namespace, other)


def test_people_with_rights_are_not_asked(enforced: Copy) -> None:
    assert "job.batch/probe" in made_by(None, enforced.namespace, job("external-secrets"))


def test_policies_compile_against_the_kinds_they_are_for(enforced: Copy) -> None:
    """The API server's own check of the expressions' types."""
    names = [item["metadata"]["name"] for item in enforced.objects if item["kind"] == "ValidatingAdmissionPolicy"]
    for name in names:
        policy = json.loads(kubectl("get", "validatingadmissionpolicy", name, "-o", "json"))
        assert not policy["status"].get("typeChecking", {}).get("expressionWarnings"), name
