"""k8s/install.py: what is half filled in, half installed or missing is told, and nothing goes to another cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from k8s import install
from k8s.install import VALUES, environment, render
from tests.unit.k8s.test_install import OTHER, needs_kubectl

if TYPE_CHECKING:
    from pathlib import Path


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
