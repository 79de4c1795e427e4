"""k8s/examples/alertmanager.yaml: amtool, Alertmanager's own tool, takes it and says who is told of what."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.promtool import rules

EXAMPLE = Path(__file__).parents[3] / "k8s" / "examples" / "alertmanager.yaml"
AMTOOL = shutil.which("amtool")

needs_amtool = pytest.mark.skipif(AMTOOL is None, reason="amtool is not on PATH")


def amtool(*arguments: str) -> str:
    command = [str(AMTOOL), *arguments]
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


@needs_amtool
def test_it_is_a_configuration() -> None:
    assert "SUCCESS" in amtool("check-config", str(EXAMPLE))


@needs_amtool
@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("severity=warning alertname=NodeNotReady", "platform"),
        ("severity=critical alertname=DagsterDaemonDown", "on-call"),
        ("severity=warning alertname=ModelDriftDetected owner=team:risk model=fraud_detection", "risk"),
        ("severity=critical alertname=SkewDetected owner=team:operations", "on-call,operations"),
        ("severity=warning alertname=ModelStale owner=nobody", "platform"),
    ],
)
def test_the_owner_of_a_model_is_told_and_what_is_critical_wakes_somebody(labels: str, told: str) -> None:
    assert amtool("config", "routes", "test", f"--config.file={EXAMPLE}", *labels.split()).strip() == told


def test_the_alerts_that_it_names_exist_with_the_severities_that_it_knows() -> None:
    alerts = {
        rule["alert"]: rule["labels"]["severity"] for group in rules() for rule in group["rules"] if "alert" in rule
    }
    assert set(re.findall(r'alertname="(\w+)"', EXAMPLE.read_text())) <= alerts.keys()
    assert set(alerts.values()) == {"critical", "warning"}
