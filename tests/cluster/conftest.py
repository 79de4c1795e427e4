"""Tests of this folder need a cluster; without one they are skipped with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.cluster import TEST_IMAGE, overlay
from tests.cluster.packages import with_packages
from tests.cluster.platform import NAMESPACE, Platform, kubectl, until

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOYMENTS = ("moto", "mlflow", "dagster-code", "dagster-daemon", "dagster-webserver")


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
    """overlays/test in an empty namespace, deleted afterwards; with MLOPS_KEEP it is kept and used again.

    MLOPS_IMAGE names the production image, to run that in place of the test image.
    """
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the test images have Python 3.11 and use this environment's packages; set it up with Python 3.11")
    keep = os.environ.get("MLOPS_KEEP")
    manifests = overlay("test", os.environ.get("MLOPS_IMAGE", TEST_IMAGE))
    documents = {"apiVersion": "v1", "kind": "List", "items": with_packages(manifests, NAMESPACE)}

    def gone() -> bool:
        return not kubectl("get", "namespace", NAMESPACE, "--ignore-not-found")

    if not (keep and not gone()):
        delete(documents)
        until("the namespace of an earlier test has gone", gone, 180)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(documents))
    for name in ("statefulset/postgres", *(f"deployment/{name}" for name in DEPLOYMENTS)):
        kubectl("rollout", "status", "-n", NAMESPACE, name, "--timeout=300s")
    deployed = Platform()
    yield deployed
    deployed.close()
    if not keep:
        delete(documents)


def delete(documents: dict[str, Any]) -> None:
    """Delete what was deployed, whatever of it is there."""
    kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=json.dumps(documents))
