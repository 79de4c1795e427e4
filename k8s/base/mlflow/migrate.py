"""Brings MLflow's database up to date; of several replicas that start at once, one does it and the others wait."""

import os
import subprocess
import sys
import time

import sqlalchemy
from sqlalchemy.exc import OperationalError

LOCK = 0x6D6C666C6F77
WAIT_S = 300


def connected(uri: str) -> sqlalchemy.Connection:
    """A connection, as soon as the database takes one."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return sqlalchemy.create_engine(uri).connect()
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            sys.stderr.write(f"waiting for the database: {str(error.orig).strip()}\n")
            time.sleep(2)


def upgrade(*command: str) -> None:
    """Run a module of MLflow. Its arguments hold a password, which no error of ours shows: the pod's log is kept."""
    if subprocess.run([sys.executable, "-m", *command], check=False).returncode:
        sys.exit(
            "MLflow's database cannot be brought up to date, for the reason above. No older MLflow takes a newer one's."
        )


def make_client(uri: str, name: str, password: str) -> None:
    """The user that the pipeline logs in as: it manages what it makes, reads the rest, and is no admin.

    Where it is there, it gets this password, so that a new one needs a restart of the servers and nothing else.
    """
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    users = SqlAlchemyStore()
    users.init_db(uri)
    if users.has_user(name):
        users.update_user(name, password=password)
    else:
        users.create_user(name, password)


def main() -> None:
    """Migrate under an advisory lock, which goes with its connection when this process is killed."""
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    with connected(uri) as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        upgrade("mlflow", "db", "upgrade", uri)
        if "MLFLOW_AUTH_CONFIG_PATH" in os.environ:
            upgrade("mlflow.server.auth", "db", "upgrade", "--url", uri)
            make_client(uri, os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])


if __name__ == "__main__":
    main()
