"""promtool, Prometheus' own tester: it gets our rules and time series, and says what fires and what queries give."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RULES = Path(__file__).parents[1] / "k8s" / "components" / "alerts"
PROMTOOL = shutil.which("promtool")


def rules() -> list[dict[str, Any]]:
    """All groups of rules of the component."""
    objects = [item for file in RULES.glob("*.yaml") for item in yaml.safe_load_all(file.read_text())]
    return [group for item in objects if item["kind"] == "PrometheusRule" for group in item["spec"]["groups"]]


def fires(folder: Path, alert: str, series: Mapping[str, str], at: str) -> bool:
    """Whether an alert fires at a time, given series in promtool's notation, a value a minute."""
    # With no alert expected, promtool fails when one fires
    expectation = {"eval_time": at, "alertname": alert, "exp_alerts": []}
    groups = [group for group in rules() if alert in [rule.get("alert") for rule in group["rules"]]]
    answer = _test(folder, groups, series, {"alert_rule_test": [expectation]})
    quiet = answer.returncode == 0
    said = answer.stdout + answer.stderr
    assert quiet or "got:[" in said.replace("\n", "").replace(" ", ""), said
    return not quiet


def queries_without_data(folder: Path, queries: Sequence[str], series: Mapping[str, str], at: str) -> list[str]:
    """Which of these queries give nothing at a time, given series and our rules.

    Raises:
        AssertionError: a query is none.
    """
    # With no samples expected, promtool fails and names each query that gives some
    expectations = [{"expr": query, "eval_time": at, "exp_samples": []} for query in queries]
    answer = _test(folder, rules(), series, {"promql_expr_test": expectations})
    said = answer.stdout + answer.stderr
    assert ", err: " not in said, said
    return [query for query in queries if f'expr: "{_quoted(query)}"' not in said]


def _quoted(query: str) -> str:
    """As Go's %q writes it."""
    return query.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _test(
    folder: Path, groups: Sequence[Mapping[str, Any]], series: Mapping[str, str], tests: Mapping[str, Any]
) -> subprocess.CompletedProcess[str]:
    if PROMTOOL is None:
        pytest.skip("promtool is not on PATH")
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": list(groups)}))
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m"}
    content |= {"tests": [{"interval": "1m", "input_series": inputs, **tests}]}
    (folder / "test.yaml").write_text(yaml.safe_dump(content))
    command = [PROMTOOL, "test", "rules", str(folder / "test.yaml")]
    return subprocess.run(command, text=True, capture_output=True, check=False)
