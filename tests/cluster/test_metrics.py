"""An in-cluster Prometheus, with its operator, reads the exporter and takes our rules, and the loop closes over them.

It is the add-on `prometheus-operator` of the cluster tool.
"""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import yaml

from mlops_assets.ml.data.simulate import transactions
from tests.cluster.kubectl import NAMESPACE, forwarded, kubectl, run_script
from tests.cluster.waiting import POD_START_S, RUN_S, SOON_S, wait_until
from tests.manifests import PROJECT
from tests.promtool import rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
SERVICES = "/api/v1/namespaces/monitoring/services"
PROMETHEUS = f"{SERVICES}/prometheus-k8s:9090/proxy/api/v1"
ALERTS = f"{SERVICES}/alertmanager-main:9093/proxy/api/v2/alerts"
MODEL = "shifting"
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
    """The platform with its monitors and rules, which wait seconds where production's wait minutes."""
    if not kubectl("get", "service", "prometheus-k8s", "-n", "monitoring", "--ignore-not-found"):
        pytest.skip("the cluster lacks the Prometheus Operator with its Prometheus")
    given = [item for file in FILES for item in yaml.safe_load_all(file.read_text())]
    for rule in (rule for item in given for group in item["spec"].get("groups", ()) for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = "10s"
    manifest = yaml.safe_dump_all(given)
    kubectl("apply", "-n", NAMESPACE, "--server-side", "-f", "-", stdin=manifest)
    yield platform
    kubectl("delete", "-n", NAMESPACE, "--ignore-not-found", "-f", "-", stdin=manifest)


def test_the_exporter_is_scraped_and_reads_all_of_its_sources(watched: Platform) -> None:
    up = f'up{{namespace="{NAMESPACE}", service="exporter"}}'
    wait_until(lambda: value(up) == 1, SOON_S, "the exporter's target is up", every_s=5)
    # Prometheus counts an exporter that was there before for minutes
    whole = f'min(max by (source) (model_exporter_up{{namespace="{NAMESPACE}"}}))'
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


def figure(metric: str) -> float | None:
    """A figure of the model that is watched."""
    return value(f'{metric}{{namespace="{NAMESPACE}", model="{MODEL}"}}')


def firing() -> bool:
    """Whether Alertmanager has the alert of the model's drift."""
    labels = [alert["labels"] for alert in json.loads(kubectl("get", "--raw", ALERTS))]
    return any(found["alertname"] == "ModelDriftDetected" and found.get("model") == MODEL for found in labels)


def asked(request_id: str, *, shifted: bool) -> str:
    """Ask the model's Service about some transactions, and wait for the log; the version that answered."""
    [batch] = transactions(600, seed=9, shifted=shifted)
    rows = batch.drop_columns(["is_fraud"]).to_pylist()
    content = json.dumps({"id": request_id, "instances": rows}).encode()
    with forwarded(f"service/{MODEL}-predictor", 80) as port:
        url = f"http://127.0.0.1:{port}/v1/models/{MODEL}:predict"

        def answer() -> str:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, content), timeout=10) as response:
                    return str(json.load(response)["model_version"])
            except OSError:
                return ""

        version = wait_until(answer, POD_START_S, "the model's Service answers")

    def is_logged() -> bool:
        return request_id in run_script("logged_requests", MODEL, check=False).split()

    wait_until(is_logged, SOON_S, "it is logged", every_s=5)
    return version


def report(platform: Platform, day: date) -> None:
    """Have what was asked be of a day that has passed, and its report be made in pods."""
    assert int(run_script("log_of_day", MODEL, str(day))) > 0
    keys = [f"{MODEL}/inference_log", f"{MODEL}/drift_report"]
    platform.run_succeeds(platform.launch(*keys, tags={"dagster/partition": str(day)}))


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_traffic_that_moves_fires_an_alert_and_brings_a_champion_after_which_it_is_quiet(watched: Platform) -> None:
    watched.run_succeeds(watched.launch(job=MODEL))
    three, two, one = (datetime.now(UTC).date() - timedelta(days=ago) for ago in (3, 2, 1))
    assert asked("as-in-training", shifted=False) == "1"
    report(watched, three)
    wait_until(lambda: figure("model_drift_score") is not None, SOON_S, "the score is scraped", every_s=5)
    assert figure("model_drift_score") == pytest.approx(0, abs=0.3)
    assert not firing()

    # The sensor asks for its run as soon as it sees the report, and finds other transactions
    assert asked("moved", shifted=True) == "1"
    run_script("move_source", MODEL)
    report(watched, two)
    wait_until(firing, SOON_S, "Alertmanager has the alert", every_s=2)
    score = figure("model_drift_score")
    assert score is not None
    assert score > 0.3
    wait_until(lambda: figure("model_champion_version") == 2, RUN_S, "another version is champion", every_s=5)

    assert asked("after", shifted=True) == "2"
    report(watched, one)
    wait_until(lambda: figure("model_drift_score") != score, SOON_S, "the new score is scraped", every_s=5)
    assert figure("model_drift_score") == pytest.approx(0, abs=0.3)
    wait_until(lambda: not firing(), POD_START_S, "the alert is over", every_s=5)
