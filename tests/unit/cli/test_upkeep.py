"""Upkeep as commands: retention deletes nothing unless it is told to, and not without knowing what is in progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.cli.upkeep import models, retention, retire
from mlops_assets.cli.upkeep import told as lines_of
from mlops_assets.ml.errors import SpecError, TrackingError
from mlops_assets.serving.declaration import Declaration, ServedVersion
from resources.lake.lake import Lake
from tests.support import free_port

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "dagster").mkdir()
    return {
        "MLOPS_HOME": str(tmp_path),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
    }


def told(variables: dict[str, str], *, dry_run: bool) -> list[str]:
    return list(retention(dry_run=dry_run, older_than_days=0, keep_versions=None, variables=variables))


def test_an_empty_lake_has_nothing_to_delete(variables: dict[str, str]) -> None:
    assert told(variables, dry_run=True) == ["0 bytes could be deleted; this was a dry run"]
    assert told(variables, dry_run=False) == ["0 bytes were deleted"]


def test_a_dry_run_lists_the_cache_and_leaves_it(variables: dict[str, str], tmp_path: Path) -> None:
    scratch = tmp_path / "cache" / "tmp12345678"
    scratch.mkdir(parents=True)
    (scratch / "left").write_bytes(b"12345")
    line = f"{scratch} (5 bytes): in the cache, not in use"
    assert told(variables, dry_run=True)[0] == f"unneeded {line}"
    assert scratch.exists()
    assert told(variables, dry_run=False) == [f"deleted {line}", "5 bytes were deleted"]
    assert not scratch.exists()


def test_without_dagster_home_nothing_is_looked_at(variables: dict[str, str]) -> None:
    del variables["DAGSTER_HOME"]
    with pytest.raises(SpecError, match="DAGSTER_HOME is not set, so nobody knows which runs are in progress; export"):
        told(variables, dry_run=True)


def test_without_mlflow_nothing_is_deleted(variables: dict[str, str], tmp_path: Path) -> None:
    handle = tmp_path / "lake/m/features/handles/latest.json"
    manifest = tmp_path / "lake/m/features/0123456789abcdef/manifest.json"
    for file in (handle, manifest):
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    with pytest.raises(TrackingError, match="cannot be reached"):
        told(variables, dry_run=False)
    assert manifest.exists()


def test_models_are_listed_and_an_orphan_is_retired(
    tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("MLOPS_SPACE", "ann")
    models_of_others = tmp_path / "serving" / "models" / "renamed_too"
    models_of_others.mkdir(parents=True)
    Declaration(champion=ServedVersion(folder="1-b", sha256="b", version="1")).write(models_of_others)
    folder = tmp_path / "serving" / "models" / "ann--renamed"
    folder.mkdir(parents=True)
    Declaration(champion=ServedVersion(folder="1-a", sha256="a", version="1")).write(folder)
    lines = {line.split()[0]: line for line in lines_of(models())}
    assert "renamed_too" not in lines
    assert lines["iris"].split()[1] == "defined"
    assert lines["renamed"].split("  ")[-1] == "serves version 1, 0 in MLflow"
    assert lines["renamed"].split()[1] == "orphaned"
    assert lines["No"] == "No YAML defines what is orphaned; mlops-assets retire takes it out of service."
    assert list(retire("renamed", "it was renamed", even_if_defined=False)) == [
        "renamed: version 1 is not served any more"
    ]
    assert "renamed" not in {line.split()[0] for line in lines_of(models())}
    [entry] = Lake(uri=str(tmp_path / "lake"), cache="", space="ann").entries("renamed/ledger")
    assert (entry["alias"], entry["version"], entry["reason"]) == ("champion", None, "it was renamed")
    assert entry["actor"].startswith("user ")
