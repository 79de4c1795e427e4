"""An in-cluster Prometheus, with its operator, reads the exporter and takes our rules; add-on `prometheus-operator`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.cluster.kubectl import NAMESPACE, kubectl
from tests.cluster.waiting import SOON_S, wait_until
from tests.manifests import PROJECT
from tests.promtool import rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
PROMETHEUS = "/api/v1/namespaces/monitoring/services/prometheus-k8s:9090/proxy/api/v1"
COMPONENTS = PROJECT / "k8s" / "components"
FILES = [
    file for name in ("metrics", "alerts") for file in (COMPONENTS / name).glob("*.yaml") if "kustomiz" not in file.name
]


def ask(path: str) -> Any:
    """What Prometheus answers."""
    return json.loads(kubectl("get", "--raw", f"{PROMETHEUS}/{path}"))["data"]


def value(query: str) -> float | None:
    """The one value of a query; None where it gives nothing."""
    found = ask(f"query?query={quote(query)}")["result"]
    return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def watched(platform: Platform) -> Iterator[Platform]:
    """The platform with its monitors and rules."""
    if not kubectl("get", "service", "prometheus-k8s", "-n", "monitoring", "--ignore-not-found"):
        pytest.skip("the cluster lacks the Prometheus Operator with its Prometheus")
    files = [argument for file in FILES for argument in ("-f", str(file))]
    kubectl("apply", "-n", NAMESPACE, "--server-side", *files)
    yield platform
    kubectl("delete", "-n", NAMESPACE, "--ignore-not-found", *files)


def test_the_exporter_is_scraped_and_reads_all_of_its_sources(watched: Platform) -> None:
    up = f'up{{namespace="{NAMESPACE}", service="exporter"}}'
    wait_until(lambda: value(up) == 1, SOON_S, "the exporter's target is up", every_s=5)
    whole = f'min(model_exporter_up{{namespace="{NAMESPACE}"}})'
    wait_until(lambda: value(whole) == 1, SOON_S, "all sources are read", every_s=5)
    assert value(f'count(model_info{{namespace="{NAMESPACE}"}})')
    assert value(f'dagster_runs{{namespace="{NAMESPACE}", status="queued"}}') is not None


def test_prometheus_has_loaded_every_rule(watched: Platform) -> None:
    wanted = {rule.get("alert") or rule["record"] for group in rules() for rule in group["rules"]}

    def loaded() -> bool:
        return wanted <= {rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]}

    wait_until(loaded, SOON_S, "the rules are loaded", every_s=5)
    broken = [rule for group in ask("rules")["groups"] for rule in group["rules"] if rule["health"] == "err"]
    assert broken == []
