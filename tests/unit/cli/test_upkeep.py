"""Retention as a command: it deletes nothing unless it is told to, and not without knowing what is in progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.cli.upkeep import retention
from mlops_assets.ml.errors import SpecError, TrackingError
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
