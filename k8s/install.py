"""Installs or upgrades what an environment's cluster needs, in order: charts, NodePools, operators, manifests.

Versions are those of helm-values/charts.yaml. Everything is written into a folder first, as values of charts, manifests
and a script, so that it can be looked at, compared with what was applied before, and handed to Argo CD or Flux.

    python k8s/install.py staging                  # kubectl's current cluster
    python k8s/install.py staging --render FOLDER  # look at it, and install nothing
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PROJECT = Path(__file__).resolve().parents[1]
VALUES = PROJECT / "helm-values"
ENVIRONMENTS = sorted(path.stem for path in (VALUES / "environments").glob("*.yaml"))
NODES = {"NodePool", "EC2NodeClass"}
APPLY = "kubectl apply --server-side"
# An environment's cluster has its name; EKS puts an ARN before it
GUARD = """\
cluster=$(kubectl config view --minify --output 'jsonpath={{.clusters[0].name}}')
case "$cluster" in
  {name} | */{name}) ;;
  *) echo "kubectl's cluster is $cluster, and this is for {name}; see aws eks update-kubeconfig" >&2; exit 1 ;;
esac"""


class Chart(NamedTuple):
    """A line of helm-values/charts.yaml: a chart, or a kustomization where there is no chart."""

    release: str
    namespace: str
    chart: str = ""
    version: str = ""
    repository: str = ""
    kustomization: str = ""
    optional: bool = False
    arguments: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Helm's arguments that say which chart, of which version, from where."""
        repository = f" --repo {self.repository}" if self.repository else ""
        return f"{self.chart}{repository} --version {self.version}"


class Environment(NamedTuple):
    """helm-values/environments/<name>.yaml."""

    namespace: str
    add: list[str]
    values: dict[str, Any]


def charts() -> dict[str, list[Chart]]:
    """Every chart by its phase, in the order in which they are installed."""
    table = yaml.safe_load((VALUES / "charts.yaml").read_text())
    return {phase: [Chart(**line) for line in lines] for phase, lines in table.items()}


def environment(name: str) -> Environment:
    """What is this environment's own.

    Raises:
        SystemExit: it adds a chart, or sets values of one, that charts.yaml does not have.
    """
    given = Environment(**yaml.safe_load((VALUES / "environments" / f"{name}.yaml").read_text()))
    known = {chart.release for phase in charts().values() for chart in phase}
    unknown = sorted({*given.add, *given.values} - known)
    if unknown:
        names = ", ".join(unknown)
        sys.exit(f"helm-values/environments/{name}.yaml names {names}, which helm-values/charts.yaml does not have")
    return given


def values_of(chart: Chart, of: Environment) -> dict[str, Any]:
    """The values of a release: those of all environments, and over them this one's."""
    shared = VALUES / f"{chart.release}.yaml"
    base = yaml.safe_load(shared.read_text()) if shared.is_file() else {}
    return merged(base, of.values.get(chart.release, {}))


def merged(base: Any, over: Any) -> Any:
    """As Helm merges values: maps key by key, everything else is replaced.

    >>> merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]})
    {'a': {'b': 3, 'c': 2}, 'd': [2]}
    """
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    return over


def render(name: str, folder: Path) -> Path:
    """Write everything that an installation applies into a folder, and return the script that applies it."""
    of, phases = environment(name), charts()
    (folder / "values").mkdir(parents=True, exist_ok=True)
    # As kustomize writes them: read and written again, some texts would be numbers
    objects = kustomized(PROJECT / "k8s" / "overlays" / name).split("\n---\n")
    nodes = [item for item in objects if yaml.safe_load(item)["kind"] in NODES]
    (folder / "nodes.yaml").write_text("\n---\n".join(nodes))
    (folder / "environment.yaml").write_text("\n---\n".join(item for item in objects if item not in nodes))
    (folder / "storage-class.yaml").write_text((PROJECT / "k8s" / "storage-class.yaml").read_text())

    lines = ["#!/usr/bin/env bash", "set -euo pipefail", f"cd {shlex.quote(str(folder.resolve()))}"]
    lines += [GUARD.format(name=of.namespace), f"{APPLY} -f storage-class.yaml"]
    # Helm, which made them once, still counts as the owner of their fields
    lines += [f"helm show crds {chart.source} | {APPLY} --force-conflicts -f -" for chart in phases["crds"]]
    for phase, after in (("nodes", "nodes.yaml"), ("operators", "environment.yaml"), ("environment", "")):
        wanted = [chart for chart in phases[phase] if not chart.optional or chart.release in of.add]
        lines += [line for chart in wanted for line in commands(chart, of, folder)]
        lines += [f"{APPLY} -f {after}"] if after else []
    script = folder / "install.sh"
    script.write_text("\n".join(lines) + "\n")
    return script


def commands(chart: Chart, of: Environment, folder: Path) -> list[str]:
    """What installs or upgrades a release, and waits for it: the next one may need its webhooks."""
    if chart.kustomization:
        return [f"kubectl kustomize {shlex.quote(str(PROJECT / chart.kustomization))} | {APPLY} -f -"]
    (folder / "values" / f"{chart.release}.yaml").write_text(yaml.safe_dump(values_of(chart, of), sort_keys=False))
    namespace = of.namespace if chart.namespace == "environment" else chart.namespace
    arguments = "".join(f" {argument}" for argument in chart.arguments)
    return [
        f"helm upgrade --install {chart.release} {chart.source} --namespace {namespace} --create-namespace"
        f" --values values/{chart.release}.yaml{arguments} --wait --timeout 15m"
    ]


def kustomized(folder: Path) -> str:
    """The manifests of a folder.

    Raises:
        SystemExit: kubectl does not take it.
    """
    done = subprocess.run(["kubectl", "kustomize", str(folder)], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("environment", choices=ENVIRONMENTS)
    parser.add_argument("--render", type=Path, metavar="FOLDER", help="write what would be applied, and apply nothing")
    given = parser.parse_args()
    if given.render:
        print(render(given.environment, given.render))
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(subprocess.run(["bash", render(given.environment, Path(folder))], check=False).returncode)


if __name__ == "__main__":
    main()
