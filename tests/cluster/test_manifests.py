"""k8s/: every object is accepted, and Pod Security holds. In namespaces of these tests' own, beside what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.cluster import K8S
from tests.cluster.environment_copy import admit, as_list
from tests.cluster.kubectl import kubectl

if TYPE_CHECKING:
    from tests.cluster.environment_copy import Copy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


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
    assert with_token == {"dagster-code", "dagster-daemon", "dagster-webserver", "dagster-webserver-read-only"}


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
    assert variables["DAGSTER_CURRENT_IMAGE"] == code["image"] != "mlops-platform"
    [settings] = [item["data"] for item in environment.objects if item["metadata"]["name"] == "mlops-environment"]
    assert settings["MLOPS_PREDICTOR_IMAGE"].endswith(code["image"].partition("mlops-platform")[2])


@pytest.mark.parametrize("environment", ["test"], indirect=True)
@pytest.mark.parametrize("example", ["iris", "text"])
def test_the_api_server_accepts_the_examples(environment: Copy, example: str) -> None:
    made = kubectl("kustomize", str(K8S / "examples" / example))
    command = ["apply", "--server-side", "--validate=strict", "--dry-run=server", "-o", "name", "-n"]
    accepted = kubectl(*command, environment.namespace, "-f", "-", stdin=made).split()
    assert [name for name in accepted if name.startswith("inferenceservice.serving.kserve.io/")]
