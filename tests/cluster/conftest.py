"""Tests of this folder need a cluster; without one they are skipped with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.cluster import LOCAL, REGISTRY, overlay
from tests.cluster.environment_copy import CRDS, ENVIRONMENTS, GROUNDWORK, Copy, as_list
from tests.cluster.failure_dump import cluster_state
from tests.cluster.kubectl import NAMESPACE, kubectl, objects
from tests.cluster.packages import with_packages
from tests.cluster.platform import Platform
from tests.cluster.waiting import GONE_S, POD_START_S, SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

NEEDED = ("nodepools.karpenter.sh", "inferenceservices.serving.kserve.io", "pytorchjobs.kubeflow.org")
DEPLOYMENTS = (
    *("moto", "mlflow", "dagster-code", "dagster-daemon", "exporter"),
    *("dagster-webserver", "dagster-webserver-read-only"),
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a cluster test that failed shows the cluster as it is now, before fixtures clear it away."""
    report = yield
    if report.failed and report.when in ("setup", "call") and item.get_closest_marker("cluster"):
        report.sections.append(("the cluster when the test failed", cluster_state()))
    return report


@pytest.fixture(scope="session", autouse=True)
def reachable_cluster() -> None:
    """Skip unless KUBECONFIG names a cluster that answers."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    command = ["kubectl", "get", "--raw", "/readyz", "--request-timeout=5s"]
    answer = subprocess.run(command, text=True, capture_output=True, check=False)
    if answer.returncode:
        pytest.skip(f"the cluster of KUBECONFIG does not answer: {answer.stderr.strip()}")


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """overlays/test in an empty namespace, deleted afterwards; with MLOPS_KEEP it is kept and used again."""
    absent = [kind for kind in NEEDED if not kubectl("get", "crd", kind, "--ignore-not-found")]
    if absent:
        pytest.skip(f"the cluster lacks {', '.join(absent)}: it needs Karpenter, KServe and the Training Operator")
    keep = os.environ.get("MLOPS_KEEP")
    manifests = overlay("test")
    refuse_foreign_pools(manifests)
    if REGISTRY == LOCAL:
        if sys.version_info[:2] != (3, 11):
            pytest.skip(
                "the test images have Python 3.11 and use this environment's packages; set it up with Python 3.11"
            )
        manifests = with_packages(manifests, NAMESPACE)
    documents = {"apiVersion": "v1", "kind": "List", "items": manifests}
    # Nodes that Karpenter did not make are CPU nodes
    kubectl("label", "nodes", "-l", "!karpenter.sh/nodepool", "mlops.dev/pool=cpu", "--overwrite")

    def phase() -> str:
        phase = ("-o", "jsonpath={.status.phase}")
        return kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", *phase)

    if not (keep and phase() == "Active"):
        delete(documents)
        wait_until(lambda: phase() == "", GONE_S, "the namespace of an earlier test has gone")
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(documents))
    for name in ("statefulset/postgres", *(f"deployment/{name}" for name in DEPLOYMENTS)):
        kubectl("rollout", "status", "-n", NAMESPACE, name, f"--timeout={POD_START_S}s")
    deployed = Platform()
    yield deployed
    deployed.close()
    if not keep:
        delete(documents)


def refuse_foreign_pools(manifests: list[dict[str, Any]]) -> None:
    """NodePools are cluster-wide: those of another environment would be changed and then deleted."""
    names = {item["metadata"]["name"] for item in manifests if item["kind"] == "NodePool"}
    foreign = names & {
        pool["metadata"]["name"]
        for pool in objects("nodepools")
        if pool["metadata"].get("labels", {}).get("mlops.dev/environment") != "test"
    }
    assert not foreign, (
        f"NodePools {', '.join(foreign)} are another environment's; give the tests a cluster of their own"
    )


def delete(documents: dict[str, Any]) -> None:
    """Delete what was deployed, whatever of it is there."""
    kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=json.dumps(documents))


@pytest.fixture(scope="session")
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
        kubectl("wait", "--for=condition=Established", f"--timeout={SOON_S}s", *made)
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
