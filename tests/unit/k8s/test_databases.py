"""Two users of each database, on a real PostgreSQL: one gets a new password while all goes on by the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pgserver
import pytest
import sqlalchemy
from dagster import DagsterInstance, DagsterRun
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator

K8S = Path(__file__).parents[3] / "k8s"
BIN = Path(pgserver.__file__).parent / "pginstall" / "bin"
SECRETS = {"dagster": "dagster-postgresql", "mlflow": "mlflow-database", "features": "features-database"}
# The superuser of Aurora is none; it may make roles and databases
MASTER = "CREATE ROLE aurora LOGIN CREATEROLE CREATEDB; GRANT pg_monitor TO aurora"
# What the Data API answers to one statement, and Secrets Manager to one name
AWS = """#!/bin/bash
case "$*" in
  *execute-statement*)
    answer=$("$PSQL" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$MASTER") || exit 1
    echo "{\\"records\\": [[{\\"longValue\\": ${answer:-0}}]]}" ;;
  *get-secret-value*) cat "$SECRETS/$(sed 's:.*--secret-id [^/]*/::; s: .*::' <<< "$*")" ;;
esac
"""


class Server:
    """A PostgreSQL that asks for passwords, and what stands in Secrets Manager about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = pgserver.get_server(folder / "data", cleanup_mode="delete")
        self.socket = self.postgres.get_uri().rpartition("host=")[2]
        self.superuser = self.postgres.get_uri()
        self.psql(MASTER)
        rules = "local all postgres trust\nlocal all aurora trust\nlocal all all scram-sha-256\n"
        (folder / "data" / "pg_hba.conf").write_text(rules)
        self.psql("SELECT pg_reload_conf()")
        for name, body in (("aws", AWS), ("terraform", "#!/bin/sh\necho arn\n")):
            (folder / name).write_text(body)
            (folder / name).chmod(0o755)

    def psql(self, sql: str, **variables: str) -> str:
        command = [BIN / "psql", "--no-psqlrc", "--quiet", "-At", "--set", "ON_ERROR_STOP=1", self.superuser]
        done = subprocess.run(
            command, input=sql, capture_output=True, text=True, check=False, env=os.environ | variables
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def put(self, database: str, user: str) -> None:
        """Put a user with a new password into Secrets Manager."""
        content = {"username": user, "password": uuid.uuid4().hex}
        (self.folder / SECRETS[database]).write_text(json.dumps(content))

    def uri(self, database: str, scheme: str = "postgresql+psycopg2") -> str:
        """What External Secrets makes of the secret."""
        secret = json.loads((self.folder / SECRETS[database]).read_text())
        return f"{scheme}://{secret['username']}:{secret['password']}@/{database}?host={self.socket}"

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of the pages, with stand-ins for AWS and Terraform around this server."""
        variables = os.environ | {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PSQL": str(BIN / "psql"),
            "MASTER": self.superuser.replace("postgres:", "aurora:", 1),
            "SECRETS": str(self.folder),
        }
        script = f"source {K8S}/environment.sh production\nset -euo pipefail\n{command}"
        return subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True, env=variables)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("postgres"))
    yield made
    made.postgres.cleanup()


def make(server: Server) -> None:
    """What docs/production/databases.md says."""
    done = server.shell(
        "database dagster dagster-postgresql\ndatabase mlflow mlflow-database\ndatabase features features-database"
    )
    assert done.returncode == 0, done.stderr


def init(server: Server) -> None:
    """What the PostgreSQL in the cluster does."""
    values = {name: json.loads((server.folder / secret).read_text()) for name, secret in SECRETS.items()}
    users = {f"{name.upper()}_{key.upper()}": value[key] for name, value in values.items() for key in value}
    server.psql((K8S / "base/postgres/databases.sql").read_text(), **users)


def instance(server: Server, folder: Path) -> DagsterInstance:
    folder.mkdir()
    settings = {"storage": {"postgres": {"postgres_url": server.uri("dagster", "postgresql")}}}
    (folder / "dagster.yaml").write_text(json.dumps(settings | {"telemetry": {"enabled": False}}))
    return DagsterInstance.from_config(str(folder))


def owners(uri: str) -> set[str]:
    with sqlalchemy.create_engine(uri).connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT tableowner FROM pg_tables WHERE schemaname = 'public'"))
        return {row[0] for row in found}


@pytest.mark.parametrize("bring", [make, init], ids=["aurora", "in the cluster"])
def test_what_one_user_makes_the_other_may_use_and_migrate(server: Server, bring: Any):
    for user in ("a", "b"):
        for database in SECRETS:
            server.put(database, f"{database}_{user}")
        bring(server)
        bring(server)  # it may be repeated
        with sqlalchemy.create_engine(server.uri("mlflow")).begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS runs (id int)"))
            connection.execute(sqlalchemy.text(f"ALTER TABLE runs ADD COLUMN by_{user} int"))
            connection.execute(sqlalchemy.text("INSERT INTO runs (id) VALUES (1)"))
    assert owners(server.uri("mlflow")) == {"mlflow"}
    assert server.psql("SELECT rolcanlogin FROM pg_roles WHERE rolname IN ('dagster', 'mlflow')") == "f\nf"

    other = server.uri("dagster").replace("/dagster?", "/mlflow?")
    with pytest.raises(OperationalError, match="permission denied for database"):
        sqlalchemy.create_engine(other).connect()


class Worker:
    """Uses Dagster's event log and MLflow, again and again, by connections of a pool."""

    def __init__(self, server: Server, folder: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        self.instance = instance(server, folder)
        self.mlflow = SqlAlchemyStore(server.uri("mlflow"), str(folder / "artifacts"))
        self.done, self.failed, self.ended = 0, list[Exception](), threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        while not self.ended.wait(0.02):
            try:
                run = self.instance.add_run(DagsterRun(job_name="j"))
                self.instance.report_engine_event("here", run)
                self.mlflow.create_experiment(uuid.uuid4().hex)
                self.mlflow.engine.dispose()  # the next one logs in anew
                self.done += 1
            except Exception as error:
                self.failed.append(error)

    def goes_on(self) -> None:
        """Wait until it has done more, and nothing has failed."""
        wanted, deadline = self.done + 3, time.monotonic() + 120
        while self.done < wanted and not self.failed and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.failed == []
        assert self.done >= wanted

    def end(self) -> None:
        self.ended.set()
        self.thread.join()
        self.instance.dispose()
        self.mlflow.engine.dispose()


def test_passwords_change_while_dagster_and_mlflow_work_on(server: Server, tmp_path: Path):
    for database in SECRETS:
        server.put(database, f"{database}_a")
    make(server)
    before = Worker(server, tmp_path / "before")
    before.goes_on()
    old = server.uri("dagster")

    for database in SECRETS:  # Terraform
        server.put(database, f"{database}_b")
    before.goes_on()
    make(server)
    before.goes_on()
    after = Worker(server, tmp_path / "after")  # the roll-out
    before.goes_on()
    after.goes_on()

    with sqlalchemy.create_engine(old, poolclass=sqlalchemy.NullPool).connect():
        refused = server.shell("lock dagster_a")
    assert refused.returncode == 1
    assert "sessions: wait for the runs that began before" in refused.stderr
    before.end()
    assert server.shell("lock dagster_a && lock mlflow_a").returncode == 0
    with pytest.raises(OperationalError, match="not permitted to log in"):
        sqlalchemy.create_engine(old).connect()
    after.goes_on()

    for database in SECRETS:  # the next time it is the turn of the first again, with another password
        server.put(database, f"{database}_a")
    make(server)
    again = Worker(server, tmp_path / "again")
    again.goes_on()
    after.goes_on()
    with pytest.raises(OperationalError, match="password authentication failed"):
        sqlalchemy.create_engine(old).connect()
    for worker in (after, again):
        worker.end()
    assert owners(server.uri("dagster")) == {"dagster"}
    assert owners(server.uri("mlflow")) == {"mlflow"}


def test_a_database_of_before_gets_its_users_and_keeps_its_tables(server: Server):
    server.psql("CREATE ROLE dagster LOGIN PASSWORD 'p' CREATEROLE; GRANT dagster TO aurora WITH ADMIN OPTION")
    server.psql("CREATE DATABASE dagster OWNER dagster")
    before = f"postgresql+psycopg2://dagster:p@/dagster?host={server.socket}"
    with sqlalchemy.create_engine(before).begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE runs (id int)"))
    server.put("dagster", "dagster_a")
    done = server.shell("database dagster dagster-postgresql")
    assert done.returncode == 0, done.stderr
    with sqlalchemy.create_engine(server.uri("dagster")).begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE runs ADD COLUMN more int"))
    sqlalchemy.create_engine(before).connect().close()  # a pod that goes on


def migrate(server: Server) -> subprocess.CompletedProcess[str]:
    """What MLflow's servers do before they start."""
    variables = os.environ | {"MLFLOW_BACKEND_STORE_URI": server.uri("mlflow"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, str(K8S / "base" / "mlflow" / "migrate.py")]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=variables)


@pytest.mark.long
def test_a_database_of_a_newer_mlflow_is_left_alone_and_no_log_has_its_password(server: Server):
    """An older version of the platform over a newer one."""
    for database in SECRETS:
        server.put(database, f"{database}_a")
    make(server)
    assert migrate(server).returncode == 0
    with sqlalchemy.create_engine(server.uri("mlflow")).begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'ffff00000000'"))

    done = migrate(server)

    assert done.returncode == 1
    assert "ffff00000000" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("MLflow's database cannot be brought up to date")
    assert json.loads((server.folder / SECRETS["mlflow"]).read_text())["password"] not in done.stdout + done.stderr


EXPIRED = 'echo "An error occurred (ExpiredToken)" >&2; exit 254;'


@pytest.mark.parametrize(
    "lost",
    [f"*execute-statement*) {EXPIRED};", f'*get-secret-value*) if [ -e "$SECRETS/asked" ]; then {EXPIRED} fi;;'],
    ids=["an answer of the database", "the second look into the secret"],
)
def test_an_answer_of_aws_that_does_not_come_takes_nobodys_password(server: Server, lost: str):
    """A login to AWS that has run out, or too many requests, in the middle of it and in a shell that goes on."""
    for database in SECRETS:
        server.put(database, f"{database}_a")
    make(server)
    asked = 'case "$*" in *get-secret-value*) touch "$SECRETS/asked" ;; esac'
    (server.folder / "aws").write_text(AWS.replace("\n", f'\ncase "$*" in {lost} esac\n{asked}\n', 1))

    done = server.shell("set +e +u +o pipefail; database dagster dagster-postgresql; exit $?")

    assert done.returncode != 0
    assert "ExpiredToken" in done.stderr
    with sqlalchemy.create_engine(server.uri("dagster")).connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT current_user")).scalar() == "dagster"
