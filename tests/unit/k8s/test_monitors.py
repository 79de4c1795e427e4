"""What Prometheus reads: monitors find the pods that are really made, and the rules find the labels they ask for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from resources.environment import PORTS
from resources.kubernetes import labels
from tests.manifests import PROJECT, named, needs_kubectl, of_kind, rendered
from tests.network_policies import selects
from tests.promtool import rules
from tests.unit.k8s.test_network_policies import predictor

CRDS = Path(os.environ.get("MLOPS_CRDS", PROJECT.parent / "shared" / "crds")) / "prometheus-operator"
VALUES = yaml.safe_load((PROJECT / "helm-values/kube-prometheus-stack.yaml").read_text())
NAME = "monitoring.coreos.com_"
# Chart kserve-resources v0.20.0, templates/kserve/deployment_kserve-controller-manager.yaml
KSERVE_CONTROLLER = {
    "app.kubernetes.io/name": "kserve-controller-manager",
    "control-plane": "kserve-controller-manager",
    "controller-tools.k8s.io": "1.0",
}
OVERLAYS = ("staging", "production")


def schema(kind: str) -> Draft202012Validator:
    """What the Prometheus Operator's CRD of a kind says about its spec."""
    path = CRDS / f"{NAME}{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"no CRDs to compare with at {CRDS}; MLOPS_CRDS names their folder")
    [version] = yaml.safe_load(path.read_text())["spec"]["versions"]
    return Draft202012Validator(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_monitor_of_predictors_finds_what_kserve_makes(overlay: str) -> None:
    [monitor] = of_kind(rendered(overlay), "PodMonitor")
    pod, _ = predictor("iris")
    assert selects(monitor["spec"]["selector"], pod)
    assert not selects(monitor["spec"]["selector"], {labels.COMPONENT: labels.STEP_WORKER, labels.MODEL: "iris"})
    assert set(monitor["spec"]["podTargetLabels"]) <= pod.keys()


def test_the_monitor_of_kserve_finds_its_controller_where_that_listens() -> None:
    [monitor] = VALUES["prometheus"]["additionalPodMonitors"]
    kserve = yaml.safe_load((PROJECT / "helm-values/kserve.yaml").read_text())["kserve"]["controller"]
    assert selects(monitor["selector"], KSERVE_CONTROLLER)
    assert kserve["metricsBindAddress"] == "0.0.0.0"
    given = {key: value for key, value in monitor.items() if key != "name"}
    assert [error.message for error in schema("PodMonitor").iter_errors(given)] == []


@pytest.mark.parametrize("chart", ["karpenter", "external-secrets"])
def test_a_chart_that_has_a_monitor_brings_it(chart: str) -> None:
    values = yaml.safe_load((PROJECT / "helm-values" / f"{chart}.yaml").read_text())
    assert values["serviceMonitor"]["enabled"] is True


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_monitor_of_the_exporter_finds_its_service_and_that_its_pod(overlay: str) -> None:
    [monitor] = of_kind(rendered(overlay), "ServiceMonitor")
    services = [item for item in of_kind(rendered(overlay), "Service") if item["metadata"].get("labels")]
    [service] = [item for item in services if selects(monitor["spec"]["selector"], item["metadata"]["labels"])]
    pod = named(rendered(overlay), "Deployment", service["metadata"]["name"])["spec"]["template"]
    assert selects({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])
    [endpoint], [port] = monitor["spec"]["endpoints"], service["spec"]["ports"]
    [container] = pod["spec"]["containers"]
    assert endpoint["port"] == port["name"]
    assert {"name": port["targetPort"], "containerPort": PORTS["EXPORTER_PORT"]} in container["ports"]


@needs_kubectl
def test_the_exporter_has_no_right_and_no_secret_that_it_does_not_need() -> None:
    objects = rendered("production")
    account = named(objects, "ServiceAccount", "exporter")
    bound = [subject for item in of_kind(objects, "RoleBinding", "ClusterRoleBinding") for subject in item["subjects"]]
    assert account["automountServiceAccountToken"] is False
    assert not [subject for subject in bound if subject["name"] == "exporter"]
    [container] = named(objects, "Deployment", "exporter")["spec"]["template"]["spec"]["containers"]
    secrets = {source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source}
    assert secrets == {"lake-credentials", "mlflow-client"}


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_operator_takes_every_monitor_and_every_rule(overlay: str) -> None:
    kinds = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
    found = of_kind(rendered(overlay), *kinds)
    assert {item["kind"] for item in found} == kinds
    for item in found:
        assert [error.message for error in schema(item["kind"]).iter_errors(item["spec"])] == [], item["metadata"]


def test_kube_state_metrics_lets_every_label_through_that_a_rule_asks_for() -> None:
    """Without the allow list a label is not there, and the rule would be silent for ever."""
    allowed: dict[str, set[str]] = {}
    for entry in VALUES["kube-state-metrics"]["metricLabelsAllowlist"]:
        kind, _, names = entry.rstrip("]").partition("=[")
        allowed[kind] = {f"label_{re.sub(r'[^a-z]', '_', name)}" for name in names.split(",")}
    asked: list[Any] = []
    for rule in (rule for group in rules() for rule in group["rules"]):
        kinds = set(re.findall(r"kube_(pod|job|node)_labels", rule["expr"]))
        asked += kinds
        for kind in kinds:
            assert set(re.findall(r"label_[a-z_]+", rule["expr"])) - {"label_replace"} <= allowed[f"{kind}s"], rule
    assert set(asked) == {"pod", "job", "node"}


@needs_kubectl
def test_a_failed_run_is_seen_by_its_pod() -> None:
    for path, keys in (
        ("k8s/base/dagster/dagster.yaml", ("run_launcher", "config")),
        ("helm-values/dagster.yaml", ("runLauncher", "config", "customRunLauncher", "config")),
    ):
        node = yaml.safe_load((PROJECT / path).read_text())
        for key in keys:
            node = node[key]
        assert node["fail_pod_on_run_failure"] is True
