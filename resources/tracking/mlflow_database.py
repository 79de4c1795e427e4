"""MLflow's database on this machine, made at set-up: `python -m resources.tracking.mlflow_database`.

Made by a server's first start it takes seconds, for all of MLflow's migrations run.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from resources.environment import Environment

ARTIFACTS = "mlflow-artifacts:/"  # the server itself


def create_database(database: Path) -> bool:
    """Make the database of the embedded MLflow server, unless there is one; whether it was made.

    It appears as a whole: a process that is killed leaves none, and of two that make it one does.
    """
    if database.exists():
        return False
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=database.parent) as scratch:
        draft = Path(scratch) / database.name
        _migrate(draft)
        with suppress(FileExistsError):
            os.link(draft, database)
            return True
    return False


def address_of(database: Path) -> str:
    """The address of an SQLite database."""
    return f"sqlite:///{database}"


def _migrate(database: Path) -> None:
    """Do what `mlflow server` does with a database that does not exist."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # else a line for each migration
    SqlAlchemyStore(address_of(database), ARTIFACTS).engine.dispose()


if __name__ == "__main__":
    create_database(Environment.read().mlflow_database)
