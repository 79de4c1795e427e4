"""The code location as a whole: what it defines, and how a mistake in it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.definitions import defs

PROJECT = Path(__file__).parents[2]
STAGES = [
    *("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment"),
    *("inference_log", "drift_report"),
]


OF_THE_STORE = ["feature_views", "online_features"]


@pytest.mark.parametrize(
    ("model", "more"), [("departure_delay", OF_THE_STORE), ("flight_delay", []), ("fraud_detection", []), ("iris", [])]
)
def test_each_model_has_its_stages_jobs_and_checks(model: str, more: list[str]) -> None:
    graph = defs.resolve_asset_graph()
    keys = {key for key in graph.materializable_asset_keys if key.path[0] == model}
    assert keys == {dg.AssetKey([model, stage]) for stage in [*STAGES, *more]}
    assert defs.resolve_job_def(model).name == model
    checks = {key.name for key in graph.asset_check_keys if key.asset_key.path[0] == model}
    assert checks >= {"not_empty", "schema", "contract", "no_leakage", "gate", "reloads", "no_skew"}


def test_a_code_server_loads_all_of_it_at_once() -> None:
    """A command that runs one job loads that alone, and does not notice what two jobs have in common."""
    repository = defs.get_repository_def()
    repository.load_all_definitions()
    assert {"iris", "iris_rollback", "flight_delay_rollback"} <= {job.name for job in repository.get_all_jobs()}


def test_every_blocking_check_blocks() -> None:
    graph = defs.resolve_asset_graph()
    warning = {key.name for key in graph.asset_check_keys if not graph.get_check_spec(key).blocking}
    assert warning == {"row_count", "beats_champion", "newest_data", "drift", "fresh"}


def test_the_stages_that_are_tables_have_a_table_name() -> None:
    graph = defs.resolve_asset_graph()
    names = {key.path[-1]: graph.get(key).metadata.get("dagster/table_name") for key in graph.materializable_asset_keys}
    named = {stage for stage, name in names.items() if name is not None}
    assert named == {"raw_data", "prepared_data", "features", "inference_log"}


def test_an_asset_leads_to_its_yaml() -> None:
    metadata = defs.resolve_asset_graph().get(dg.AssetKey(["iris", "raw_data"])).metadata
    [reference, *_] = metadata["dagster/code_references"].code_references
    assert str(reference.file_path).endswith("mlops_assets/defs/iris/defs.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, to break."""
    for name in ("mlops_assets", "resources", "pyproject.toml"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tmp_path / name)
    return tmp_path


def load(project: Path, program: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """What loading the code location of a project says."""
    return subprocess.run(
        [sys.executable, "-c", f"from mlops_assets.definitions import defs; {program}"],
        capture_output=True,
        text=True,
        cwd=project,
        check=False,
        env=os.environ | {"PYTHONPATH": str(project)} | environment,
    )


BROKEN = {
    "a value": ("task: multiclass_classification", "task: multiclass", "iris/defs.yaml:4: task: 'multiclass'"),
    "the syntax": ("  task:", "  typo: [\n  task:", "iris"),
    "a key that is there twice": (
        "  task: multiclass",
        "  model: other\n  task: multiclass",
        "iris/defs.yaml:4: model is there twice, first in line 3",
    ),
    "a model of another file": (
        "model: iris",
        "model: flight_delay",
        "model flight_delay is defined in mlops_assets/defs",
    ),
    "a template": (
        "model: iris",
        "model: iris\n  description: '{{ cycler.__init__ }}'",
        "iris/defs.yaml:4: description",
    ),
    "an unknown variable": ("uri: iris", "uri: '{{ env.NOPE_NOPE }}/iris", "the environment has no NOPE_NOPE; set it"),
}


@pytest.mark.parametrize(("old", "new", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_yaml_takes_its_own_model_out_and_validation_fails(
    project: Path, old: str, new: str, told: str
) -> None:
    yaml = project / "mlops_assets/defs/iris/defs.yaml"
    text = yaml.read_text().replace(old, new)
    yaml.write_text(text.replace("*.csv,", "*.csv',") if "NOPE" in new else text)
    keys = "sorted({key.path[0] for key in defs.resolve_asset_graph().get_all_asset_keys()})"
    program = f"print({keys}, defs.resolve_job_def('iris').description)"
    loaded = load(project, program)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("['departure_delay', 'flight_delay', 'fraud_detection', 'iris']")
    assert told in loaded.stdout
    assert told in loaded.stderr
    strict = load(project, DAGSTER_IS_DEFS_VALIDATION_CLI="1")
    assert strict.returncode == 1
    assert told in strict.stderr


def test_models_that_retrain_by_themselves_share_a_sensor_and_the_others_have_none(project: Path) -> None:
    for model in ("iris", "flight_delay"):
        with (project / f"mlops_assets/defs/{model}/defs.yaml").open("a") as yaml:
            yaml.write("\n  retrain: {on_new_data: true}\n")
    program = (
        "r = defs.get_repository_def(); sensors = {s.name: s for s in r.sensor_defs}; "
        "print(sorted(sensors), sorted(t.job_name for t in sensors['retrain'].targets))"
    )
    loaded = load(project, program)
    assert loaded.returncode == 0, loaded.stderr
    names = ["default_automation_condition_sensor", "monitoring", "retrain"]
    assert loaded.stdout.strip() == f"{names} {['flight_delay', 'iris']}"


def test_a_mistake_is_one_line_where_definitions_are_validated(project: Path) -> None:
    broken = project / "mlops_assets/defs/iris/defs.yaml"
    broken.write_text(broken.read_text().replace("task: multiclass_classification", "task: multiclass"))
    found = load(project, DAGSTER_IS_DEFS_VALIDATION_CLI="1")
    lines = [line for line in found.stderr.splitlines() if line.startswith("mlops_assets.ml.errors.SpecError")]
    assert len(lines) == 1
    assert "multiclass_classification" in lines[0]


def test_materializing_a_broken_model_fails_with_the_reason(project: Path) -> None:
    broken = project / "mlops_assets/defs/iris/defs.yaml"
    broken.write_text(broken.read_text().replace("task: multiclass_classification", "task: multiclass"))
    program = "found = defs.resolve_job_def('iris').execute_in_process(raise_on_error=False); print(found.all_events)"
    found = load(project, program)
    assert "task: 'multiclass': input should be" in found.stdout
