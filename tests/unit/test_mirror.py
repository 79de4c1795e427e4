"""Where one looks for a test: each module has a file of its name in the same room of tests/unit, or stands below."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[2]
UNIT = PROJECT / "tests" / "unit"
SERVER = "tests/integration/test_serving.py"
ROLLOUT = "tests/integration/test_rollout.py"
ROUTES = "tests/unit/serving/test_routes.py"
PROVENANCE = "tests/unit/cli/test_provenance.py"
YAML = "tests/unit/spec/test_model_spec.py"
TRANSFORMER = "tests/integration/test_transformer.py"
TESTED_ELSEWHERE = {
    "mlops_assets.assets.provenance": PROVENANCE,
    "mlops_assets.cli.__main__": "tests/unit/cli/test_program.py",
    "mlops_assets.cli.labels": PROVENANCE,
    "mlops_assets.ml.inference.log_columns": "tests/unit/serving/test_inference_log.py",
    "mlops_assets.serving.application": ROUTES,
    "mlops_assets.serving.declaration": "tests/unit/serving/test_model_repository.py",
    "mlops_assets.serving.http_answers": ROUTES,
    "mlops_assets.serving.limits": ROUTES,
    "mlops_assets.serving.log_files": "tests/unit/serving/test_inference_log.py",
    "mlops_assets.serving.model_server": SERVER,
    "mlops_assets.serving.prediction_route": ROUTES,
    "mlops_assets.serving.predictor": SERVER,
    "mlops_assets.serving.request_body": ROUTES,
    "mlops_assets.serving.request_metrics": SERVER,
    "mlops_assets.serving.server_state": ROUTES,
    "mlops_assets.testing.serving_target_conformance": "tests/unit/resources/serving/test_serving_target.py",
    "mlops_assets.spec.deploy": YAML,
    "mlops_assets.spec.source": YAML,
    "mlops_assets.spec.stored_view": YAML,
    "resources.features.local_transformer": TRANSFORMER,
    "resources.features.transformer": TRANSFORMER,
    "resources.kubernetes.pods": "tests/cluster/test_launching.py",
    "resources.kubernetes.training_jobs": "tests/cluster/test_distributed.py",
    "resources.lake.object_store": "tests/unit/testing/test_object_store_conformance.py",
    "resources.serving.expose": "tests/unit/resources/serving/test_exposure.py",
    "resources.serving.golden_rows": SERVER,
    "resources.serving.cluster_services": "tests/unit/resources/kubernetes/test_api.py",
    "resources.serving.local_serving": SERVER,
    "resources.serving.predictor_pod": "tests/unit/resources/serving/test_kserve_manifest.py",
    "resources.serving.rollout": ROLLOUT,
    "resources.serving.serving_pod": "tests/unit/resources/serving/test_kserve_manifest.py",
    "resources.serving.transformer_pod": "tests/unit/resources/serving/test_kserve_manifest.py",
    "resources.serving.serving_steps": "tests/unit/resources/serving/test_serving_target.py",
}


def expected_test(module: Path) -> Path:
    """Where the test of a module lies: rooms of mlops_assets below tests/unit, the others in tests/unit/resources."""
    room = module.relative_to(PROJECT / "mlops_assets" if module.is_relative_to(PROJECT / "mlops_assets") else PROJECT)
    return UNIT / room.parent / f"test_{room.name}"


def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    files = [path for package in ("mlops_assets", "resources") for path in (PROJECT / package).rglob("*.py")]
    found = [path for path in files if path.name != "__init__.py"]
    return {".".join(path.relative_to(PROJECT).with_suffix("").parts): path for path in found}


def test_every_module_has_a_test_where_one_looks_for_it() -> None:
    missing = {name for name, path in modules().items() if not expected_test(path).exists()}
    assert missing - TESTED_ELSEWHERE.keys() == set()
    assert TESTED_ELSEWHERE.keys() - missing == set(), "these have a test of their own, or are gone"


def test_what_is_tested_elsewhere_names_a_test() -> None:
    assert [target for target in TESTED_ELSEWHERE.values() if not (PROJECT / target).exists()] == []
