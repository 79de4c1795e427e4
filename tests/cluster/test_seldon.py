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
from tests.cluster.test_pods_of_dagster import REFUSED, made_by
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
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(with_types(yaml.safe_load(file.read_text()))))
    try:
        # Not by `kubectl wait`, which fails while there is no status at all
        established = "jsonpath={.status.conditions[?(@.type=='Established')].status}"
        wait_until(lambda: kubectl("get", "crd", CRD, "-o", established, check=False) == "True", SOON_S, "it is known")
        yield
    finally:
        kubectl("delete", "crd", CRD)


def with_types(schema: Any) -> Any:
    """A CRD as API servers take it now: the 1.17.1 one says of the children of a graph not what they are."""
    if isinstance(schema, list):
        return [with_types(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    typed = {name: with_types(item) for name, item in schema.items()}
    if isinstance(items := typed.get("items"), dict) and "type" not in items and typed.get("type") == "array":
        typed["items"] = {"type": "object", **items}
    return typed


@pytest.fixture
def governed(environment: Copy, seldon: None) -> Copy:
    """The environment with the rights of k8s/components/seldon, once the API server goes by its policy."""
    kubectl("apply", "-n", environment.namespace, "-f", str(COMPONENT / "role.yaml"))
    other = deployment(serviceAccountName="dagster-deployer")
    wait_until(
        lambda: REFUSED in made_by("dagster-deployer", environment.namespace, other), SOON_S, "a policy is enforced"
    )
    return environment


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
    assert "PodSecurity" not in answer.stderr


def test_a_deployment_step_makes_predictors_of_their_own_account_alone(governed: Copy) -> None:
    deployer, namespace = "dagster-deployer", governed.namespace
    assert "seldondeployment.machinelearning.seldon.io/probe" in made_by(deployer, namespace, deployment())
    assert REFUSED in made_by(deployer, namespace, deployment(serviceAccountName="dagster-run"))
    ready_made = deployment()
    ready_made["spec"]["predictors"][0]["graph"] |= {"implementation": "SKLEARN_SERVER", "modelUri": "s3://b/m"}
    assert REFUSED in made_by(deployer, namespace, ready_made)


def test_its_predictors_get_no_secret_of_the_platform_and_pass_for_no_other_part(governed: Copy) -> None:
    secret = deployment()
    pod = secret["spec"]["predictors"][0]["componentSpecs"][0]["spec"]
    pod["containers"][0]["envFrom"] = [{"secretRef": {"name": "postgres"}}]
    assert "gets PostgreSQL's data or one of the Secrets" in made_by("dagster-deployer", governed.namespace, secret)
    labelled = [deployment() for _ in range(3)]
    mark = {"mlops.dev/authenticates": "operators"}
    labelled[0]["metadata"]["labels"] |= mark
    labelled[1]["spec"]["predictors"][0]["labels"] |= mark
    labelled[2]["spec"]["predictors"][0]["componentSpecs"][0]["metadata"] = {"labels": mark}
    answer = made_by("dagster-deployer", governed.namespace, *labelled)
    assert answer.count("is labelled as another part of the platform") == len(labelled), answer
