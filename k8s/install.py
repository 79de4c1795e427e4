"""Installs or upgrades what an environment's cluster needs, in order: charts, NodePools, operators, manifests.

Versions are those of helm-values/charts.yaml. Everything is written into a folder first, as values of charts, manifests
and a script, so that it can be looked at, compared with what was applied before, and handed to Argo CD or Flux.

    python k8s/install.py staging                  # kubectl's current cluster
    python k8s/install.py staging --render FOLDER  # look at it, and install nothing
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[1]
VALUES = PROJECT / "helm-values"
ENVIRONMENTS = sorted(path.stem for path in (VALUES / "environments").glob("*.yaml"))
NODES = {"NodePool", "EC2NodeClass"}
APPLY = "kubectl apply --server-side"
# What stands for an account, its database and its subnets, until docs/production/install.md was followed
PLACEHOLDERS = re.compile("111122223333|cluster-example|subnet-0123456789abcdef")
# An environment's cluster has its name; EKS puts an ARN before it. All goes there, also when kubectl is pointed
# elsewhere in another terminal meanwhile.
GUARD = """\
for program in kubectl helm; do
  command -v "$program" > /dev/null || {{ echo "$program is missing; install it first" >&2; exit 1; }}
done
config=$(mktemp)
trap 'rm -f "$config"' EXIT
kubectl config view --raw --minify --flatten > "$config"
export KUBECONFIG=$config
cluster=$(kubectl config view --minify --output 'jsonpath={{.clusters[0].name}}')
case "$cluster" in
  {name} | */{name}) ;;
  *) echo "kubectl's cluster is $cluster, and this is for {name}; see aws eks update-kubeconfig" >&2; exit 1 ;;
esac
# Helm takes a release whose installation was killed to be under way for ever, and refuses every other one
failed() {{
  if helm list --pending --short --namespace "$2" | grep --quiet --line-regexp "$1"; then
    remedy=uninstall
    if helm history "$1" --namespace "$2" | grep --quiet deployed; then remedy=rollback; fi
    echo "Another installation of $1 runs, or one was killed." \\
      "Where none runs: helm $remedy $1 --namespace $2; then repeat" >&2
  fi
  exit 1
}}"""


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


class Environment(BaseModel):
    """helm-values/environments/<name>.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str
    add: list[str]
    values: dict[str, dict[str, Any]]


class Account(NamedTuple):
    """An account of AWS, and where in it an environment is."""

    number: str
    region: str
    registry: str

    def filled(self, text: str) -> str:
        """Text of a file that all environments share, with what is this one's."""
        text = text.replace(SHARED.registry, self.registry)
        return text.replace(SHARED.number, self.number).replace(SHARED.region, self.region)


SHARED = Account("111122223333", "us-east-1", "111122223333.dkr.ecr.us-east-1.amazonaws.com")


def charts() -> dict[str, list[Chart]]:
    """Every chart by its phase, in the order in which they are installed."""
    table = yaml.safe_load((VALUES / "charts.yaml").read_text())
    return {phase: [Chart(**line) for line in lines] for phase, lines in table.items()}


def environment(name: str) -> Environment:
    """What is this environment's own.

    Raises:
        SystemExit: it is not as it must be, or adds a chart, or sets values of one, that charts.yaml does not have.
    """
    file = f"helm-values/environments/{name}.yaml"
    try:
        given = Environment.model_validate(yaml.safe_load((VALUES / "environments" / f"{name}.yaml").read_text()))
    except yaml.YAMLError as error:
        sys.exit(f"{file}: {error}")
    except ValidationError as error:
        sys.exit("\n".join(f"{file}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    known = {chart.release: chart for phase in charts().values() for chart in phase}
    unknown = sorted({*given.add, *given.values} - known.keys())
    if unknown:
        names = ", ".join(unknown)
        sys.exit(f"{file} names {names}, which helm-values/charts.yaml does not have")
    for release in given.values:
        try:
            values_of(known[release], given)
        except ValueError as error:
            sys.exit(f"{file}: values.{release}: {error}")
    return given


def account(name: str, of: Environment) -> Account:
    """Where the overlay of an environment is in AWS, by its `settings.yaml` and `images`.

    Raises:
        SystemExit: a setting is empty, or the environment's files name several namespaces, so that its policies of
            admission would hold elsewhere.
    """
    overlay = PROJECT / "k8s" / "overlays" / name
    settings = yaml.safe_load((overlay / "settings.yaml").read_text())["spec"]
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    wrong = [key for key, value in leaves(settings) if not str(value).strip() or str(value) != str(value).strip()]
    if wrong:
        sys.exit(f"k8s/overlays/{name}/settings.yaml: {', '.join(wrong)} is empty, or has spaces around it")
    namespaces = {
        f"k8s/overlays/{name}/settings.yaml": settings["namespace"],
        f"k8s/overlays/{name}/kustomization.yaml": kustomization["namespace"],
        f"helm-values/environments/{name}.yaml": of.namespace,
    }
    if len({*namespaces.values()}) > 1:
        told = ", ".join(f"{namespace} in {file}" for file, namespace in namespaces.items())
        sys.exit(f"An environment has one namespace, and this one has {told}")
    return Account(
        number=settings["role_arns"]["control"].split(":")[4],
        region=settings["region"],
        registry=kustomization["images"][0]["newName"].rpartition("/")[0],
    )


def leaves(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a YAML by their paths; an empty one is text of no characters.

    >>> [*leaves({"a": [{"b": 1}, None], "c": "x", "d": []})]
    [('a.0.b', 1), ('a.1', ''), ('c', 'x'), ('d', '')]
    """
    pairs = [*node.items()] if isinstance(node, dict) else [*enumerate(node)] if isinstance(node, list) else []
    for key, value in pairs:
        yield from leaves(value, f"{at}.{key}".lstrip("."))
    if not pairs:
        yield at, "" if node in (None, [], {}) else node


def values_of(chart: Chart, of: Environment, place: Account = SHARED) -> dict[str, Any]:
    """The values of a release: those of all environments, for this one's place, and over them this one's.

    Raises:
        ValueError: this one has nothing where all environments have several values, which Helm would take away.
    """
    shared = VALUES / f"{chart.release}.yaml"
    base = yaml.safe_load(place.filled(shared.read_text())) if shared.is_file() else {}
    return merged(base, of.values.get(chart.release, {}))


def merged(base: Any, over: Any) -> Any:
    """As Helm merges values: maps key by key, everything else is replaced.

    >>> merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]})
    {'a': {'b': 3, 'c': 2}, 'd': [2]}
    """
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    if base and isinstance(base, dict) and over is None:
        raise ValueError(f"a key without a value would take away all of {', '.join(base)}")
    return over


def render(name: str, folder: Path) -> Path:
    """Write everything that an installation applies into a folder, and return the script that applies it."""
    of, phases = environment(name), charts()
    (folder / "values").mkdir(parents=True, exist_ok=True)
    # As kustomize writes them: read and written again, some texts would be numbers
    objects = kustomized(PROJECT / "k8s" / "overlays" / name).split("\n---\n")
    place = account(name, of)
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
        lines += [line for chart in wanted for line in commands(chart, of, place, folder)]
        lines += [f"{APPLY} -f {after}"] if after else []
    script = folder / "install.sh"
    script.write_text("\n".join(lines) + "\n")
    return script


def commands(chart: Chart, of: Environment, place: Account, folder: Path) -> list[str]:
    """What installs or upgrades a release, and waits for it: the next one may need its webhooks."""
    if chart.kustomization:
        fill = shlex.quote(f"s~{re.escape(SHARED.registry)}~{place.registry}~g")
        return [f"kubectl kustomize {shlex.quote(str(PROJECT / chart.kustomization))} | sed {fill} | {APPLY} -f -"]
    values = values_of(chart, of, place)
    (folder / "values" / f"{chart.release}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    namespace = of.namespace if chart.namespace == "environment" else chart.namespace
    arguments = "".join(f" {argument}" for argument in chart.arguments)
    return [
        f"helm upgrade --install {chart.release} {chart.source} --namespace {namespace} --create-namespace"
        f" --values values/{chart.release}.yaml{arguments} --wait --timeout 15m || failed {chart.release} {namespace}"
    ]


def kustomized(folder: Path) -> str:
    """The manifests of a folder.

    Raises:
        SystemExit: kubectl does not take it, or is missing.
    """
    if shutil.which("kubectl") is None:
        sys.exit("kubectl is missing; install it first")
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
        script = render(given.environment, Path(folder))
        left = {
            f"{word[0]} ({path.name})"
            for path in Path(folder).rglob("*")
            if path.is_file()
            for word in PLACEHOLDERS.finditer(path.read_text())
        }
        if left:
            where = "put in yours first, see docs/production/install.md#your-account"
            sys.exit(f"There are placeholders in what would be installed: {', '.join(sorted(left))}; {where}")
        sys.exit(subprocess.run(["bash", script], check=False).returncode)


if __name__ == "__main__":
    main()
