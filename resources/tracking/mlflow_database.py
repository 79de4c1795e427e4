"""MLflow's database on this machine, made at set-up: `python -m resources.tracking.mlflow_database`.

Made by the server's first start it takes seconds, for all of MLflow's migrations run.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from resources.environment import Environment


def create_database(environment: Environment) -> bool:
    """Make the database of the embedded MLflow server, unless there is one; whether it was made.

    It appears as a whole: a process that is killed leaves none, and of two that make it one does.
    """
    database = environment.mlflow_database
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


def _migrate(file: Path) -> None:
    """Do what `mlflow server` does with a database that does not exist."""
    from mlflow.server.handlers import initialize_backend_stores

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    initialize_backend_stores(f"sqlite:///{file}", f"sqlite:///{file}", "mlflow-artifacts:/")


if __name__ == "__main__":
    create_database(Environment.read())
