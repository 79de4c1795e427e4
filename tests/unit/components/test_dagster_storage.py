"""Dagster's storage is read by who may launch nothing."""

from __future__ import annotations

from pathlib import Path

import yaml

from mlops_assets.components.dagster_storage import dagster_storage

PRODUCTION = Path(__file__).parents[3] / "k8s" / "base" / "dagster" / "dagster.yaml"


def test_production_s_storage_is_read_by_who_has_no_token_of_kubernetes(tmp_path: Path) -> None:
    document = yaml.safe_load(PRODUCTION.read_text())
    document["storage"] = {"sqlite": {"base_dir": str(tmp_path)}}
    document["local_artifact_storage"]["config"]["base_dir"] = str(tmp_path)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(document))
    with dagster_storage(str(tmp_path)) as opened:
        assert opened.get_runs_count() == 0
