"""helm-values/: keys that the charts know, no defaults, no secrets; the Dagster chart is set as the manifests are.

The charts' values and schemas are data beside the project (MLOPS_CHARTS), not part of it.
"""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

PROJECT = Path(__file__).resolve().parents[3]
VALUES = PROJECT / "helm-values"
CHARTS = Path(os.environ.get("MLOPS_CHARTS", PROJECT.parent / "shared" / "charts"))

# Values file -> chart, and the file of its values where it is not values.yaml
CHART_OF = {
    "argo-workflows": "argo-workflows",
    "dagster": "dagster",
    "dcgm-exporter": "dcgm-exporter",
    "external-secrets": "external-secrets",
    "karpenter": "karpenter",
    "kserve": "kserve-resources",
    "kube-prometheus-stack": "kube-prometheus-stack",
    "mlflow": "mlflow-official",
    "nvidia-device-plugin": "nvidia-device-plugin",
    "oauth2-proxy": "oauth2-proxy",
}

# Keys that a chart reads although its values.yaml does not write them, and where they come from
UNWRITTEN = {
    ("dagster", "dagsterDaemon.runMonitoring.cancelTimeoutSeconds"): "a comment there, and its template",
    ("dagster", "runLauncher.config.customRunLauncher"): "a comment there, and its template",
    ("argo-workflows", "controller.pdb.minAvailable"): "a comment there, and its template",
    ("kube-prometheus-stack", "kube-state-metrics.metricLabelsAllowlist"): "values.yaml of kube-state-metrics 8.4.0",
    ("oauth2-proxy", "config.existingSecret"): "a comment there, and its template",
}

# Below these any key goes: their default is not empty, but they are handed to Kubernetes or a program as they are
FREE_FORM = {
    ("dagster", "dagsterWebserver.startupProbe"),
    ("dagster", "retention.schedule.purgeAfterDays"),
    ("mlflow", "server.value_options"),
    ("mlflow", "podSecurityContext"),
}

SECRET_KEY = re.compile(r"(?i)(password|passwd|secret_?key|access_?key|api_?key|token|private_?key|client_?secret)$")
SECRET_VALUE = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:{$]+:[^@/\s{$]+@|\bgh[pousr]_\w{20,}"
)
REFERENCE = re.compile(r"(?i)(name|ref|from|key)$")

needs_charts = pytest.mark.skipif(
    not CHARTS.is_dir(), reason=f"no charts to compare with at {CHARTS}; MLOPS_CHARTS names their folder"
)


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


def ours(name: str) -> dict[str, Any]:
    return load(VALUES / f"{name}.yaml")


def merged(base: Any, over: Any) -> Any:
    """As helm does: maps are merged, everything else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: merged(base.get(key), over.get(key, base.get(key))) for key in base | over}
    return copy.deepcopy(over)


def defaults(name: str) -> dict[str, Any]:
    """A chart's values with those of the subcharts that are there."""
    chart = CHARTS / CHART_OF[name]
    if not chart.is_dir():
        pytest.skip(f"no chart {CHART_OF[name]} to compare with in {CHARTS}")
    values = load(next(iter(sorted(chart.glob("values*.yaml")))) if name == "mlflow" else chart / "values.yaml")
    for below in chart.glob("*/values.yaml"):
        values[below.parent.name] = merged(load(below), values.get(below.parent.name, {}))
    return values


def unknown_keys(chart: str, given: dict[str, Any], known: dict[str, Any], at: str = "") -> list[str]:
    """Paths that the chart's values do not have. An empty map, an empty list and null take anything."""
    found: list[str] = []
    for key, value in given.items():
        path = f"{at}{key}"
        if (chart, path) in UNWRITTEN:
            continue
        if key not in known:
            found.append(path)
        elif isinstance(value, dict) and (chart, path) not in FREE_FORM:
            below = known[key]
            if isinstance(below, dict) and below:
                found += unknown_keys(chart, value, below, f"{path}.")
            elif below not in ({}, [], None):
                found.append(path)
    return found


def superfluous(given: Any, known: Any, at: str = "") -> list[str]:
    """Paths whose value is what the chart defaults to."""
    if isinstance(given, dict) and isinstance(known, dict) and (given or known):
        return [p for key in given if key in known for p in superfluous(given[key], known[key], f"{at}.{key}")]
    return [at.removeprefix(".")] if given == known and type(given) is type(known) else []


def secrets(given: Any, at: str = "") -> list[str]:
    """Paths of literals that look like secrets. Names of Secrets and of their keys are none."""
    if isinstance(given, dict):
        return [path for key, value in given.items() for path in secrets(value, f"{at}.{key}")]
    if isinstance(given, list):
        named = [secrets(item, f"{at}[{index}]") for index, item in enumerate(given)]
        literal = [
            f"{at}[{index}]"
            for index, item in enumerate(given)
            if isinstance(item, dict) and SECRET_KEY.search(str(item.get("name", ""))) and item.get("value")
        ]
        return [path for paths in named for path in paths] + literal
    key = at.rpartition(".")[2]
    suspicious = (
        isinstance(given, str) and given and SECRET_KEY.search(key) and not REFERENCE.search(at.rpartition(".")[0])
    )
    return [at.removeprefix(".")] if suspicious or SECRET_VALUE.search(str(given)) else []


def schema_errors(schema: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Without network: Kubernetes' own definitions, which a schema may name, take anything."""
    validator = Draft7Validator if "draft-07" in schema.get("$schema", "") else Draft202012Validator
    text = re.sub(r'"\$ref":\s*"https?://[^"]*"', '"title": "defined by Kubernetes"', json.dumps(schema))
    checked = validator(json.loads(text))
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in checked.iter_errors(values)]


def without_nulls(values: Any) -> Any:
    """Helm drops null before it validates."""
    if isinstance(values, dict):
        return {key: without_nulls(value) for key, value in values.items() if value is not None}
    return [without_nulls(item) for item in values] if isinstance(values, list) else values


def test_there_is_a_file_for_each_chart():
    assert {path.stem for path in VALUES.glob("*.yaml")} - {"charts"} == set(CHART_OF)


@needs_charts
@pytest.mark.parametrize("name", CHART_OF)
def test_every_key_is_one_of_the_chart(name: str):
    assert unknown_keys(name, ours(name), defaults(name)) == []


@needs_charts
@pytest.mark.parametrize("name", CHART_OF)
def test_nothing_is_written_that_the_chart_defaults_to(name: str):
    assert superfluous(ours(name), defaults(name)) == []


@needs_charts
@pytest.mark.parametrize(
    "name", [name for name in CHART_OF if (CHARTS / CHART_OF[name] / "values.schema.json").is_file()]
)
def test_the_chart_takes_the_values(name: str):
    schema = json.loads((CHARTS / CHART_OF[name] / "values.schema.json").read_text())

    assert schema_errors(schema, without_nulls(merged(defaults(name), ours(name)))) == []


@needs_charts
def test_the_subchart_takes_dagsters_code_location():
    below = CHARTS / "dagster" / "dagster-user-deployments"
    schema = json.loads((below / "values.schema.json").read_text())
    values = merged(load(below / "values.yaml"), ours("dagster")["dagster-user-deployments"])

    assert schema_errors(schema, without_nulls(values)) == []


@pytest.mark.parametrize("name", CHART_OF)
def test_no_secret_is_written_down(name: str):
    assert secrets(ours(name)) == []


@pytest.mark.parametrize("name", CHART_OF)
def test_every_block_has_its_reason(name: str):
    """A comment stands above each top-level block, in it, or at the top of the file."""
    text = (VALUES / f"{name}.yaml").read_text()
    blocks = re.split(r"\n(?=\n)", text)

    assert text.startswith("# Chart") or text.startswith("# MLflow's official chart")
    assert [block.strip().splitlines()[0] for block in blocks if "#" not in block and block.strip()] == []


CHART = {"replicas": 1, "server": {"port": 80, "tls": {"enabled": False}}, "annotations": {}, "env": [], "mode": None}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"replica": 2}, ["replica"]),
        ({"server": {"ports": 8080}}, ["server.ports"]),
        ({"server": {"tls": {"enable": True}}}, ["server.tls.enable"]),
        ({"replicas": {"min": 1}}, ["replicas"]),
        ({"annotations": {"any": "key"}, "mode": {"any": 1}, "server": {"port": 1}}, []),
    ],
)
def test_unknown_keys_are_found(given: dict[str, Any], found: list[str]):
    assert unknown_keys("test", given, CHART) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"replicas": 1}, ["replicas"]),
        ({"server": {"tls": {"enabled": False}}}, ["server.tls.enabled"]),
        ({"annotations": {}, "env": []}, ["annotations", "env"]),
        ({"replicas": True, "server": {"port": 8080}, "annotations": {"a": "b"}}, []),
    ],
)
def test_defaults_that_are_written_again_are_found(given: dict[str, Any], found: list[str]):
    assert superfluous(given, CHART) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"auth": {"adminPassword": "hunter2"}}, ["auth.adminPassword"]),
        ({"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "abc"}]}, [".env[0]"]),
        ({"url": "postgresql://mlflow:abc@host/mlflow"}, ["url"]),
        ({"args": ["--id=AKIAABCDEFGHIJKLMNOP"]}, ["args[0]"]),
        ({"secretKeyRef": {"name": "mlflow-database", "key": "uri"}, "existingSecret": "mlflow", "password": ""}, []),
        (
            {"env": [{"name": "DAGSTER_PG_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "a", "key": "password"}}}]},
            [],
        ),
    ],
)
def test_secrets_are_found(given: dict[str, Any], found: list[str]):
    assert secrets(given) == found


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"port": "80"}, "port"),
        ({"more": 1}, "more"),
        ({"port": 80, "volume": {"anything": 1}}, None),
    ],
)
def test_the_schema_is_applied_without_network(values: dict[str, Any], wrong: str | None):
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "additionalProperties": False,
        "properties": {
            "port": {"type": "integer"},
            "volume": {"$ref": "https://kubernetes.invalid/_definitions.json#/definitions/io.k8s.api.core.v1.Volume"},
        },
    }

    errors = schema_errors(schema, values)

    assert bool(errors) == (wrong is not None)
    assert wrong is None or wrong in errors[0]


@needs_charts
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("dagsterDaemon", "runMonitor"), {"pollIntervalSeconds": 20}),
        (("dagsterDaemon", "runCoordinator", "type"), "Queued"),
        (("concurrency", "pools", "limit"), 1),
        (("runLauncher", "type"), "RunLauncher"),
        (("computeLogManager", "type"), "S3"),
        (("retention", "sensor", "purgeAfterDays", "skipped"), "one"),
    ],
)
def test_the_schema_of_dagster_refuses_what_the_chart_would_ignore(path: tuple[str, ...], value: Any):
    schema = json.loads((CHARTS / "dagster" / "values.schema.json").read_text())
    values = without_nulls(merged(defaults("dagster"), ours("dagster")))
    below = values
    for key in path[:-1]:
        below = below[key]
    below[path[-1]] = value

    assert schema_errors(schema, values) != []


def snake(node: Any) -> Any:
    """Keys of Kubernetes' Python client and of dagster.yaml. Keys with a dot or a slash are labels and stay."""
    if isinstance(node, dict):
        return {
            re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower() if "/" not in key else key: snake(v) for key, v in node.items()
        }
    return [snake(item) for item in node] if isinstance(node, list) else node


@pytest.fixture(scope="module")
def instance() -> dict[str, Any]:
    """dagster.yaml of the manifests."""
    return load(PROJECT / "k8s" / "base" / "dagster" / "dagster.yaml")


@pytest.fixture(scope="module")
def chart() -> dict[str, Any]:
    return snake(ours("dagster"))


def test_runs_are_watched_as_in_the_manifests(instance: dict[str, Any], chart: dict[str, Any]):
    assert {"enabled": True} | chart["dagster_daemon"]["run_monitoring"] == instance["run_monitoring"]


def test_concurrency_is_limited_as_in_the_manifests(instance: dict[str, Any], chart: dict[str, Any]):
    limits = {key: value for key, value in chart["concurrency"].items() if key != "enabled"}

    assert limits == instance["concurrency"]


def test_logs_go_where_the_manifests_put_them(instance: dict[str, Any], chart: dict[str, Any]):
    assert chart["compute_log_manager"]["config"]["s3_compute_log_manager"] == instance["compute_logs"]["config"]


def test_ticks_are_kept_as_long_as_in_the_manifests(instance: dict[str, Any], chart: dict[str, Any]):
    for kind in ("sensor", "schedule"):
        kept = {key: days for key, days in chart["retention"][kind]["purge_after_days"].items() if key != "started"}
        assert kept == instance["retention"][kind]["purge_after_days"]


def test_other_settings_are_those_of_the_manifests(instance: dict[str, Any], chart: dict[str, Any]):
    postgres = instance["storage"]["postgres"]["postgres_db"]

    assert chart["additional_instance_config"]["nux"] == instance["nux"]
    assert chart["additional_instance_config"]["local_artifact_storage"] == instance["local_artifact_storage"]
    assert chart["telemetry"] == instance["telemetry"]
    assert yaml.safe_load(chart["postgresql"]["postgresql_username"]) == postgres["username"]
    assert chart["postgresql"]["postgresql_database"] == postgres["db_name"]
    assert chart["global"]["dagster_home"] == instance["run_launcher"]["config"]["dagster_home"]
    assert chart["global"]["postgresql_secret_name"] == instance["run_launcher"]["config"]["postgres_password_secret"]


def test_runs_are_launched_as_in_the_manifests(instance: dict[str, Any]):
    launcher = copy.deepcopy(instance["run_launcher"])
    # The Secret of static S3 keys is for the test cluster alone
    env_from = launcher["config"]["run_k8s_config"]["container_config"]["env_from"]
    env_from[:] = [item for item in env_from if item["secret_ref"]["name"] != "lake-credentials"]

    assert ours("dagster")["runLauncher"]["config"]["customRunLauncher"] == launcher


def test_a_run_keeps_the_images_of_its_code_location_as_in_the_manifests():
    [deployment] = ours("dagster")["dagster-user-deployments"]["deployments"]
    given = {variable["name"]: variable.get("value") for variable in deployment["env"]}
    manifest, *_ = yaml.safe_load_all((PROJECT / "k8s" / "base" / "dagster" / "code.yaml").read_text())
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}

    assert given["DAGSTER_CONTAINER_CONTEXT"] == variables["DAGSTER_CONTAINER_CONTEXT"]
    image = f"{deployment['image']['repository']}:{deployment['image']['tag']}"
    assert given["MLOPS_TRAINER_IMAGE"] == image.replace("mlops-platform", "mlops-trainer")
