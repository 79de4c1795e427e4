"""PostgreSQL as the official image starts it: makes the database from POSTGRES_* and the init files, then serves."""

import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

BIN = Path(str(files("pgserver"))) / "pginstall" / "bin"
DATA = Path(os.environ.get("PGDATA", "/var/lib/postgresql/data/pgdata"))
SOCKETS = "/var/run/postgresql"


def password() -> str:
    """From the file that POSTGRES_PASSWORD_FILE names, or POSTGRES_PASSWORD."""
    file = os.environ.get("POSTGRES_PASSWORD_FILE")
    return Path(file).read_text().strip() if file else os.environ["POSTGRES_PASSWORD"]


def initialise(user: str) -> None:
    """Make the database cluster; only then does its folder take its name, so a killed start begins again."""
    draft = DATA.with_name(DATA.name + ".draft")
    subprocess.run(["rm", "-rf", draft], check=True)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(password())
        file.flush()
        subprocess.run(
            [BIN / "initdb", "-D", draft, "-U", user, "--pwfile", file.name, "--auth-local=trust", "-E", "UTF8"],
            check=True,
        )
    with (draft / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    options = f"-c listen_addresses='' -k {SOCKETS}"
    subprocess.run([BIN / "pg_ctl", "-D", draft, "-o", options, "-w", "-l", "/tmp/init.log", "start"], check=True)
    for script in sorted(path for path in Path("/docker-entrypoint-initdb.d").glob("*.*") if path.is_file()):
        command = [BIN / "psql", "-h", SOCKETS, "-U", user, "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-f", script]
        if script.suffix == ".sh":
            command = ["bash", script]
        variables = {"PATH": f"{BIN}:{os.environ['PATH']}", "PGHOST": SOCKETS, "PGUSER": user, "PGDATABASE": "postgres"}
        subprocess.run(command, check=True, env={**os.environ, **variables})
    subprocess.run([BIN / "pg_ctl", "-D", draft, "-w", "stop"], check=True)
    draft.rename(DATA)


def main() -> None:
    """Serve on all addresses, as this process."""
    user = os.environ.get("POSTGRES_USER", "postgres")
    if not (DATA / "PG_VERSION").exists():
        initialise(user)
    sys.stdout.flush()
    arguments = ["-D", str(DATA), "-c", "listen_addresses=*", "-k", SOCKETS]
    os.execv(BIN / "postgres", [str(BIN / "postgres"), *arguments])


main()
