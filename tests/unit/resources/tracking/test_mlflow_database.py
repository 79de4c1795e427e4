"""MLflow's database at set-up: the one that its server would have made, as a whole or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resources.environment import Environment
from resources.tracking import mlflow_database
from resources.tracking.mlflow_database import create_database
from tests.support import free_port

if TYPE_CHECKING:
    from pathlib import Path


def environment(home: Path) -> Environment:
    return Environment.read({"MLOPS_HOME": str(home), "MLFLOW_PORT": str(free_port())})


def content(file: Path) -> dict[str, list[tuple[str, ...]]]:
    """The columns of all tables, the indices, the experiments, and the migration that was the last."""
    connection = sqlite3.connect(file)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: sorted(connection.execute("SELECT * FROM pragma_table_info(?)", [name])) for name in tables}
    found["indices"] = sorted(connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'"))
    found["version"] = connection.execute("SELECT * FROM alembic_version").fetchall()
    found["experiments"] = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
    connection.close()
    return found


def test_the_database_is_the_one_that_the_servers_first_start_makes(tmp_path: Path) -> None:
    ours, servers = environment(tmp_path / "ours"), environment(tmp_path / "servers")
    servers.mlflow_server().ensure_running()
    servers.mlflow_server().stop()
    assert create_database(ours)
    assert content(ours.mlflow_database) == content(servers.mlflow_database)
    assert [path.name for path in ours.mlflow_database.parent.iterdir()] == ["mlflow.db"]
    # A server starts on it, and a second set-up leaves what it holds
    ours.mlflow_server().ensure_running()
    ours.mlflow_server().stop()
    before = ours.mlflow_database.stat()
    assert not create_database(ours)
    assert ours.mlflow_database.stat().st_ino == before.st_ino


def test_a_set_up_that_fails_leaves_no_part_of_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(mlflow_database, "_migrate", fail)
    with pytest.raises(OSError, match="full"):
        create_database(environment(tmp_path))
    assert list((tmp_path / "mlflow").iterdir()) == []


def test_of_two_that_make_it_one_does_and_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = environment(tmp_path)

    def come_second(file: Path) -> None:
        file.write_text("second")
        place.mlflow_database.write_text("first")

    monkeypatch.setattr(mlflow_database, "_migrate", come_second)
    assert not create_database(place)
    assert place.mlflow_database.read_text() == "first"


def test_set_up_makes_it_by_one_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "resources.tracking.mlflow_database"]
    done = subprocess.run(command, env={"MLOPS_HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow/mlflow.db").stat().st_size > 0
