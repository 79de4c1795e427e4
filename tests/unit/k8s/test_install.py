"""k8s/install.py: an environment is installed in order, in the versions of charts.yaml, and under its own names."""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{namespace: dev, add: , values: {}}", "add: Input should be a valid list"),
        ("{namespace: dev, add: oauth2-proxy, values: {}}", "add: Input should be a valid list"),
        ("{namespace: dev, adds: [], add: [], values: {}}", "adds: Extra inputs are not permitted"),
        ("{namespace: dev, add: [], values: }", "values: Input should be a valid dictionary"),
        ("{namespace: dev, add: [], values: {karpenter: }}", "values.karpenter: Input should be a valid dictionary"),
        (
            "{namespace: dev, add: [], values: {kserve: {kserve: {controller: }}}}",
            "values.kserve: a key without a value would take away all of deploymentMode, imagePullPolicy",
        ),
        ("{namespace: dev, add: [", "while parsing"),
    ],
)
def test_what_is_wrong_in_the_file_of_an_environment_is_told(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    shutil.copytree(VALUES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "environments" / "dev.yaml").write_text(text)
    monkeypatch.setattr("k8s.install.VALUES", tmp_path)

    with pytest.raises(SystemExit) as stopped:
        environment("dev")

    assert str(stopped.value).startswith("helm-values/environments/dev.yaml: ")
    assert told in str(stopped.value)


@needs_kubectl
@pytest.mark.parametrize(
    ("file", "before", "after", "told"),
    [
        ("settings.yaml", "bucket: mlops-staging-111122223333", 'bucket: ""', "bucket is empty"),
        ("settings.yaml", "region: us-east-1", 'region: "us-east-1\\n"', "region is empty, or has spaces around it"),
        ("settings.yaml", "project: mlops-assets", "project:", "tags.project is empty"),
        ("settings.yaml", "bucket: ", "buckett: ", "fieldPath `spec.bucket` is missing"),
        ("settings.yaml", "namespace: mlops-staging", "namespace: staging", "staging in k8s/overlays/staging/settings"),
        ("kustomization.yaml", "namespace: mlops-staging", "namespace: staging", "An environment has one namespace"),
    ],
)
def test_what_is_wrong_in_the_overlay_is_told(
    file: str, before: str, after: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    shutil.copytree(VALUES.parent / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns("terraform"))
    path = tmp_path / "k8s" / "overlays" / "staging" / file
    path.write_text(path.read_text().replace(before, after, 1))
    monkeypatch.setattr("k8s.install.PROJECT", tmp_path)

    with pytest.raises(SystemExit, match=re.escape(told)):
        render("staging", tmp_path / "made")


@needs_kubectl
def test_placeholders_are_looked_at_and_not_installed(tmp_path: Path):
    command = [sys.executable, install.__file__, "staging"]
    looked = subprocess.run([*command, "--render", tmp_path / "a b"], check=False, capture_output=True, text=True)
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert looked.stdout == f"{tmp_path}/a b/install.sh\n"
    assert done.returncode == 1
    assert "There are placeholders in what would be installed: 111122223333 (environment.yaml)" in done.stderr
    assert "docs/production/install.md#your-account" in done.stderr


@needs_kubectl
def test_everything_goes_to_the_cluster_that_kubectl_named_at_first(tmp_path: Path):
    """Somebody points kubectl at another cluster while the installation runs."""
    clusters = [{"name": f"arn/mlops-{name}", "cluster": {"server": f"https://{name}"}} for name in OTHER]
    contexts = [{"name": name, "context": {"cluster": f"arn/mlops-{name}"}} for name in OTHER]
    config = tmp_path / "config"
    written = {"apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": contexts}
    config.write_text(json.dumps(written | {"current-context": "staging"}))
    script, calls = render("staging", tmp_path / "made"), tmp_path / "calls"
    switched = f'"{shutil.which("kubectl")}" --kubeconfig {config} config use-context production > /dev/null'
    asked = f'echo "$("{shutil.which("kubectl")}" config view --minify -o "jsonpath={{.clusters[0].cluster.server}}")"'
    kubectl = f'case "$1" in config) exec "{shutil.which("kubectl")}" "$@" ;; esac\n{switched}\n{asked} >> {calls}'
    for name, body in (("kubectl", kubectl), ("helm", f"{asked} >> {calls}")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": str(config)}
    done = subprocess.run(["bash", script], check=False, capture_output=True, text=True, env=variables)

    assert done.returncode == 0, done.stderr
    assert set(calls.read_text().split()) == {"https://staging"}


@needs_kubectl
@pytest.mark.parametrize(
    ("history", "remedy"), [("1 deployed\\n2 pending-upgrade", "rollback"), ("1 pending-install", "uninstall")]
)
def test_a_release_whose_installation_was_killed_is_told_with_what_to_do(history: str, remedy: str, tmp_path: Path):
    """What Helm 3.21 was seen to say and to list, of which the stand-in has the words."""
    script = render("staging", tmp_path / "made")
    helm = f"""case "$*" in
      "upgrade --install karpenter "*) echo "Error: another operation is in progress" >&2; exit 1 ;;
      "list --pending --short --namespace kube-system") echo karpenter-more; echo karpenter ;;
      "history karpenter --namespace kube-system") printf '{history}\\n' ;;
    esac"""
    for name, body in (
        ("kubectl", 'case "$*" in "config view --minify"*) echo mlops-staging ;; *"-f -") cat ;; esac'),
        ("helm", helm),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", script], check=False, capture_output=True, text=True, env=variables)

    assert done.returncode == 1
    assert f"Where none runs: helm {remedy} karpenter --namespace kube-system; then repeat" in done.stderr


@needs_kubectl
def test_a_program_that_is_missing_is_named_before_anything_is_installed(tmp_path: Path):
    script = render("staging", tmp_path / "made")
    variables = {"PATH": str(tmp_path)}
    done = subprocess.run(
        [shutil.which("bash") or "bash", script], check=False, capture_output=True, text=True, env=variables
    )

    assert (done.returncode, done.stderr) == (1, "kubectl is missing; install it first\n")


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
