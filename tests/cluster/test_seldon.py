"""What the API server makes of SeldonDeployments, by Seldon Core's own CRD; its operator does not run here."""

from __future__ import annotations

import copy
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mlops_assets.serving.declaration import ServedVersion
from resources.serving.seldon_manifest import SELDON, seldon_deployment
from tests.cluster.cluster import K8S
from tests.cluster.environment_copy import CRDS, admit
from tests.cluster.kubectl import kubectl
from tests.cluster.test_service_account_policies import REFUSED, made_by
from tests.cluster.waiting import SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.environment_copy import Copy

CRD = f"{SELDON.plural}.machinelearning.seldon.io"
COMPONENT = K8S / "components" / "seldon"
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("environment", ["test"], indirect=True),
]


@pytest.fixture(scope="module")
def seldon() -> Iterator[None]:
    """The API server knows SeldonDeployments; it forgets them again where it did not know them before."""
    file = CRDS / "seldon-core" / "machinelearning.seldon.io_seldondeployments.yaml"
    if not file.is_file():
        pytest.skip(f"no CRD of Seldon Core at {file}; MLOPS_CRDS names the folder of such folders")
    if kubectl("get", "crd", CRD, "--ignore-not-found", "-o", "name"):
        yield
        return
    kubectl("apply", "--server-side", "-f", str(file))
    try:
        kubectl("wait", "--for=condition=Established", f"--timeout={SOON_S}s", f"crd/{CRD}")
        yield
    finally:
        kubectl("delete", "crd", CRD)


@pytest.fixture
def governed(environment: Copy, seldon: None) -> Iterator[Copy]:
    """The environment with the rights and the policy of k8s/components/seldon, once the API server goes by them."""
    kubectl("apply", "-n", environment.namespace, "-f", str(COMPONENT / "role.yaml"))
    items = list(yaml.safe_load_all((COMPONENT / "service-account-policies.yaml").read_text()))
    for item in items:
        item["metadata"]["name"] += environment.suffix
        if "policyName" in item["spec"]:
            item["spec"]["policyName"] += environment.suffix
    policies = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    kubectl("create", "-f", "-", stdin=policies)
    try:
        other = deployment(serviceAccountName="dagster-deployer")
        wait_until(
            lambda: REFUSED in made_by("dagster-deployer", environment.namespace, other), SOON_S, "a policy is enforced"
        )
        yield environment
    finally:
        kubectl("delete", "--ignore-not-found", "-f", "-", stdin=policies)


def deployment(**pod: Any) -> dict[str, Any]:
    """A SeldonDeployment, with fields of its pods changed."""
    version = ServedVersion.of(1, "0" * 64)
    item = seldon_deployment("probe", "iris", version, "s3://bucket/prefix", "image", size=1, replicas=1)
    item["spec"]["predictors"][0]["componentSpecs"][0]["spec"] |= pod
    return item


def created(environment: Copy, item: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What the API server says to an object, each field of which it must know; it makes nothing."""
    command = ["kubectl", "create", "--dry-run=server", "--validate=strict", "-o", "name"]
    command += ["-n", environment.namespace, "-f", "-"]
    return subprocess.run(command, input=json.dumps(item), text=True, capture_output=True, check=False)


def test_the_api_server_takes_what_is_deployed_and_knows_every_field(environment: Copy, seldon: None) -> None:
    answer = created(environment, deployment())
    assert answer.stdout.strip() == "seldondeployment.machinelearning.seldon.io/probe", answer.stderr
    misspelt = copy.deepcopy(deployment())
    [predictor] = misspelt["spec"]["predictors"]
    predictor["grap"] = predictor["graph"]
    assert "grap" in created(environment, misspelt).stderr


def test_pods_keep_the_restricted_standard_without_a_security_context_of_the_pod(environment: Copy) -> None:
    """The operator puts its own in that place, which is none."""
    spec = deployment()["spec"]["predictors"][0]["componentSpecs"][0]["spec"]
    for gone in ("securityContext", "priorityClassName"):  # the class has another name in this copy
        del spec[gone]
    answer = admit(environment.namespace, {"spec": spec})
    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr


def test_a_deployment_step_makes_predictors_of_their_own_account_alone(governed: Copy) -> None:
    deployer, namespace = "dagster-deployer", governed.namespace
    assert "seldondeployment.machinelearning.seldon.io/probe" in made_by(deployer, namespace, deployment())
    assert REFUSED in made_by(deployer, namespace, deployment(serviceAccountName="dagster-run"))
    ready_made = deployment()
    ready_made["spec"]["predictors"][0]["graph"] |= {"implementation": "SKLEARN_SERVER", "modelUri": "s3://b/m"}
    assert REFUSED in made_by(deployer, namespace, ready_made)
    policy = json.loads(
        kubectl("get", "validatingadmissionpolicy", f"mlops-accounts-of-seldon{governed.suffix}", "-o", "json")
    )
    assert not policy["status"].get("typeChecking", {}).get("expressionWarnings")
