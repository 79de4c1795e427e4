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


def main() -> None:
    """Migrate under an advisory lock, which goes with its connection when this process is killed."""
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    with connected(uri) as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
        subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True)
        if "MLFLOW_AUTH_CONFIG_PATH" in os.environ:
            subprocess.run([sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", uri], check=True)


main()
