"""k8s/components/alerts: promtool, Prometheus' own tester, gets the rules and time series, and says what fires when."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[3]
RULES = PROJECT / "k8s" / "components" / "alerts"
PROMTOOL = shutil.which("promtool")
NAMESPACE = 'namespace="mlops-production"'
DAEMON = f'kube_deployment_status_replicas_available{{{NAMESPACE},deployment="dagster-daemon"}}'
RESTARTS = f'kube_pod_container_status_restarts_total{{{NAMESPACE},pod="dagster-daemon-7f",container="daemon"}}'
POD = f'{NAMESPACE},pod="dagster-step-1"'
PENDING = f'kube_pod_status_phase{{{POD},phase="Pending"}}'
LABELS = f'kube_pod_labels{{{POD},label_mlops_dev_model="fraud_detection",label_mlops_dev_stage="trained_model"}}'
SERVED = f'kube_pod_labels{{{POD},label_mlops_dev_model="fraud_detection",label_mlops_dev_stage="serving"}}'
UNLABELLED = f"kube_pod_labels{{{POD}}}"


def rules() -> list[dict[str, Any]]:
    """All groups of rules of the component."""
    objects = [item for file in RULES.glob("*.yaml") for item in yaml.safe_load_all(file.read_text())]
    return [group for item in objects if item["kind"] == "PrometheusRule" for group in item["spec"]["groups"]]


@pytest.fixture
def firing(tmp_path: Path) -> Callable[[str, dict[str, str], str], bool]:
    """Whether an alert fires at a time, given series in promtool's notation, a value a minute."""
    if PROMTOOL is None:
        pytest.skip("promtool is not on PATH")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rules()}))

    def ask(alert: str, series: dict[str, str], at: str) -> bool:
        inputs = [{"series": name, "values": values} for name, values in series.items()]
        # With no alert expected, promtool fails when one fires
        expectation = {"eval_time": at, "alertname": alert, "exp_alerts": []}
        test = {"interval": "1m", "input_series": inputs, "alert_rule_test": [expectation]}
        content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(content))
        command = [str(PROMTOOL), "test", "rules", str(tmp_path / "test.yaml")]
        answer = subprocess.run(command, text=True, capture_output=True, check=False)
        quiet = answer.returncode == 0
        assert quiet or "got:[" in (answer.stdout + answer.stderr).replace("\n", "").replace(" ", ""), answer.stderr
        return not quiet

    return ask


@pytest.mark.parametrize(
    ("alert", "series", "at", "fires"),
    [
        ("DagsterDaemonDown", {DAEMON: "1 1 0x10"}, "6m", False),
        ("DagsterDaemonDown", {DAEMON: "1 1 0x10"}, "8m", True),
        ("DagsterDaemonDown", {DAEMON: "1x20"}, "20m", False),
        ("DagsterDaemonDown", {DAEMON.replace("mlops-production", "kafka"): "0x20"}, "20m", False),
        ("DagsterDaemonHangs", {RESTARTS: "0x10 1x50"}, "60m", False),
        ("DagsterDaemonHangs", {RESTARTS: "0x10 1x10 2x30 3x10"}, "60m", True),
        ("TrainingStuckPending", {PENDING: "1x40", LABELS: "1x40"}, "19m", False),
        ("TrainingStuckPending", {PENDING: "1x40", LABELS: "1x40"}, "21m", True),
        ("TrainingStuckPending", {PENDING: "1x10 0x30", LABELS: "1x40"}, "35m", False),
        ("TrainingStuckPending", {PENDING: "1x40", SERVED: "1x40"}, "35m", False),
        ("TrainingStuckPending", {PENDING: "1x40", UNLABELLED: "1x40"}, "35m", False),
    ],
)
def test_an_alert_fires_when_it_should(
    firing: Callable[[str, dict[str, str], str], bool], alert: str, series: dict[str, str], at: str, fires: bool
) -> None:
    assert firing(alert, series, at) is fires


def test_every_alert_has_its_place_in_the_runbook() -> None:
    runbook = (PROJECT / "docs" / "operations.md").read_text()
    alerts = [rule for group in rules() for rule in group["rules"]]
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook"] == "docs/operations.md#alerts"
        assert f"`{alert['alert']}`" in runbook.partition("## Alerts")[2]
