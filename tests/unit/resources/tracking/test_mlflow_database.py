"""MLflow's database at set-up: the one that its server would have made, as a whole or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resources.tracking import mlflow_database
from resources.tracking.mlflow_database import create_database

if TYPE_CHECKING:
    from pathlib import Path


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


MLFLOWS_OWN = "import sys; from mlflow.server import handlers as h; h.initialize_backend_stores(*sys.argv[1:])"


def test_the_database_is_the_one_that_mlflows_own_server_makes(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours/mlflow.db", tmp_path / "theirs.db"
    arguments = [f"sqlite:///{theirs}", f"sqlite:///{theirs}", "mlflow-artifacts:/"]
    subprocess.run([sys.executable, "-c", MLFLOWS_OWN, *arguments], check=True, capture_output=True)
    assert create_database(ours)
    assert content(ours) == content(theirs)
    assert [path.name for path in ours.parent.iterdir()] == ["mlflow.db"]
    before = ours.stat()
    assert not create_database(ours)
    assert (ours.stat().st_ino, ours.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_set_up_that_fails_leaves_no_part_of_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(mlflow_database, "_migrate", fail)
    with pytest.raises(OSError, match="full"):
        create_database(tmp_path / "mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_make_it_one_does_and_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "mlflow.db"

    def come_second(file: Path) -> None:
        file.write_text("second")
        database.write_text("first")

    monkeypatch.setattr(mlflow_database, "_migrate", come_second)
    assert not create_database(database)
    assert database.read_text() == "first"


def test_set_up_makes_it_by_one_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "resources.tracking.mlflow_database"]
    done = subprocess.run(command, env={"MLOPS_HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow/mlflow.db").stat().st_size > 0
