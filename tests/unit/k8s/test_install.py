"""k8s/install.py: an environment is installed in order, in the versions of charts.yaml, and under its own names."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s import install
from k8s.install import VALUES, Account, Chart, Environment, account, charts, commands, environment, render, values_of
from tests.unit.k8s.test_helm_values import CHART_OF, CHARTS, defaults, needs_charts, secrets, superfluous, unknown_keys

ENVIRONMENTS = ["production", "staging"]
RELEASES = {chart.release: chart for phase in charts().values() for chart in phase}
OTHER = {"production": "staging", "staging": "production"}

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

# Says which cluster is there, swallows what it is given and notes what it was called with
STUB = """#!/bin/sh
case "$*" in
  *--raw*) exit ;;
  "config view"*) echo "arn:aws:eks:us-east-1:111122223333:cluster/$CLUSTER"; exit ;;
  *"-f -") cat > /dev/null ;;
esac
echo "$(basename "$0") $*" >> "$CALLS"
"""


def installed(script: Path, folder: Path, cluster: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a script with stand-ins for kubectl and helm; what they were called with."""
    for name in ("kubectl", "helm"):
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    variables = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls), "CLUSTER": cluster}
    done = subprocess.run(["bash", script], check=False, capture_output=True, text=True, env=variables)
    return done, calls.read_text().splitlines()


def words_of(path: Path) -> str:
    """A file without comments, which may speak of another environment, and without MLOPS_ENV: production in both."""
    return re.sub(r"MLOPS_ENV: production|#.*", "", path.read_text())


@needs_kubectl
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_has_no_name_of_another_one(name: str, tmp_path: Path):
    render(name, tmp_path)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    everything = environment(name).model_copy(update={"add": list(RELEASES)})
    values = yaml.safe_dump([values_of(chart, everything) for chart in RELEASES.values()])

    assert {path.name for path in written} >= {"install.sh", "nodes.yaml", "environment.yaml", "karpenter.yaml"}
    assert [path.name for path in written if OTHER[name] in words_of(path)] == []
    assert OTHER[name] not in values


@needs_kubectl
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_nodes_and_environment_are_the_overlay(name: str, tmp_path: Path):
    render(name, tmp_path)
    parts = {part: [*yaml.safe_load_all((tmp_path / part).read_text())] for part in ("nodes.yaml", "environment.yaml")}
    command = ["kubectl", "kustomize", str(VALUES.parent / "k8s" / "overlays" / name)]
    overlay = [*yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout)]

    assert {item["kind"] for item in parts["nodes.yaml"]} == {"NodePool", "EC2NodeClass"}
    assert parts["environment.yaml"] == [item for item in overlay if item not in parts["nodes.yaml"]]
    assert len(overlay) == sum(map(len, parts.values()))


@needs_kubectl
def test_what_comes_later_finds_what_it_needs(tmp_path: Path):
    done, calls = installed(render("staging", tmp_path / "made"), tmp_path, "mlops-staging")
    order = [re.sub(r" --(repo|version|namespace) .*", "", call) for call in calls]

    assert done.returncode == 0, done.stderr
    assert order == [
        "kubectl apply --server-side -f storage-class.yaml",
        "helm show crds kube-prometheus-stack",
        "kubectl apply --server-side --force-conflicts -f -",
        "helm upgrade --install karpenter-crd oci://public.ecr.aws/karpenter/karpenter-crd",
        "helm upgrade --install karpenter oci://public.ecr.aws/karpenter/karpenter",
        "kubectl apply --server-side -f nodes.yaml",
        "helm upgrade --install kube-prometheus-stack kube-prometheus-stack",
        "helm upgrade --install external-secrets external-secrets",
        "helm upgrade --install nvidia-device-plugin nvidia-device-plugin",
        "helm upgrade --install dcgm-exporter dcgm-exporter",
        "helm upgrade --install kserve-crd oci://ghcr.io/kserve/charts/kserve-crd",
        "helm upgrade --install kserve oci://ghcr.io/kserve/charts/kserve-resources",
        "kubectl apply --server-side -f environment.yaml",
    ]


@needs_kubectl
def test_another_clusters_kubeconfig_is_refused(tmp_path: Path):
    done, calls = installed(render("staging", tmp_path / "made"), tmp_path, "mlops-production")

    assert done.returncode == 1
    assert "cluster/mlops-production, and this is for mlops-staging" in done.stderr
    assert calls == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_chart_of_the_environment_goes_into_its_namespace(name: str, tmp_path: Path):
    (tmp_path / "values").mkdir()

    of = environment(name)

    [command] = commands(RELEASES["oauth2-proxy"], of, account(name, of), tmp_path)

    assert f"--namespace mlops-{name} " in command


def test_what_is_added_must_be_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "environments").mkdir()
    shutil.copy(VALUES / "charts.yaml", tmp_path)
    (tmp_path / "environments" / "dev.yaml").write_text("{namespace: dev, add: [argo], values: {}}")
    monkeypatch.setattr("k8s.install.VALUES", tmp_path)

    with pytest.raises(SystemExit, match=r"environments/dev\.yaml names argo, which .* does not have"):
        environment("dev")


@pytest.mark.parametrize("release", CHART_OF)
def test_the_heading_of_the_values_says_the_version_of_the_table(release: str):
    heading = (VALUES / f"{release}.yaml").read_text().partition("\n")[0]

    assert release in RELEASES
    assert RELEASES[release].version in heading or not re.search(r"\d+\.\d+\.\d+", heading)


def test_crds_have_the_version_of_their_operator():
    assert RELEASES["karpenter-crd"].version == RELEASES["karpenter"].version
    assert RELEASES["kserve-crd"].version == RELEASES["kserve"].version


def test_every_chart_has_one_version_and_nothing_is_open():
    lines = [chart for phase in charts().values() for chart in phase]

    assert {chart.release: chart for chart in lines} == {chart.release: chart for chart in reversed(lines)}
    assert [
        chart.release for chart in lines if not re.fullmatch(r"v?\d+\.\d+\.\d+", chart.version or pinned(chart))
    ] == []


def pinned(chart: Chart) -> str:
    return re.findall(r"\?ref=(\S+)", Path(VALUES.parent, chart.kustomization, "kustomization.yaml").read_text())[0]


def of_environment(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [*environment(name).values.items()]


@needs_charts
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_charts_know_what_an_environment_sets(name: str):
    for release, given in of_environment(name):
        if (CHARTS / CHART_OF[release]).is_dir():
            assert unknown_keys(release, given, defaults(release)) == []
            assert superfluous(given, defaults(release)) == []
        assert secrets(given) == []


def test_environments_set_the_same_keys():
    def keys(node: Any, at: str = "") -> set[str]:
        return {path for key in node for path in keys(node[key], f"{at}.{key}")} if isinstance(node, dict) else {at}

    assert keys(environment("staging").values) == keys(environment("production").values)


def test_its_examples_hold():
    assert doctest.testmod(install) == (0, 2)


def test_an_account_and_its_region_are_filled_into_what_all_environments_share_alone():
    place = Account("999900001111", "eu-west-3", "shop.example.com")
    of = Environment(namespace="dev", add=[], values={"mlflow": {"note": "a bucket in us-east-1"}})

    values = values_of(RELEASES["mlflow"], of, place)

    assert values["image"]["repository"] == "shop.example.com/mlops-platform"
    assert values["note"] == "a bucket in us-east-1"
