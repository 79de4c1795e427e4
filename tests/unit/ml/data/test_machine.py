"""What a process may use: of its container where there is one, of the machine elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from mlops_assets.ml.data import machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({"memory.max": "2147483648\n"}, 2048),
        ({"memory/memory.limit_in_bytes": "1073741824"}, 1024),
        ({"memory.max": "max"}, None),
        ({}, None),
    ],
)
def test_the_memory_is_that_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], mib: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.available_memory() == (mib << 20 if mib else psutil.virtual_memory().total)


@pytest.mark.parametrize(("gib", "mib"), [(0.5, 384), (2, 512), (4, 1024), (64, 1024)])
def test_duckdb_gets_a_quarter_of_it_within_limits(gib: float, mib: int) -> None:
    assert machine.memory_limit_mib(int(gib * 2**30)) == mib


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 2), ("50000 100000", 1)])
def test_cores_are_those_of_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.cores() == min(cores, psutil.cpu_count() or 1)


def test_without_a_quota_there_is_at_least_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.cores() >= 1
