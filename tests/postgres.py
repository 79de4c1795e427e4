"""A PostgreSQL of the tests' own that answers over TCP and asks for a password, as one of production does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

BIN = Path(str(files("pgserver"))) / "pginstall" / "bin"
PASSWORD = "it's%secret"


@contextmanager
def postgres_server() -> Generator[str]:
    """The address of an empty database."""
    folder, port = Path(tempfile.mkdtemp(prefix="postgres")), free_port()
    # It refuses to run as root
    user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, **user)
    data, ctl = folder / "data", [BIN / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    initdb = [BIN / "initdb", "-D", data, "-U", "features", "--pwfile", folder / "password", "--auth=scram-sha-256"]
    options = f"-c listen_addresses=127.0.0.1 -c fsync=off -p {port} -k {folder}"
    try:
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **user)
        subprocess.run([*ctl, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)
        yield f"postgresql://features:it's%25secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*ctl, "-m", "fast", "stop"], check=False, stdout=subprocess.DEVNULL, cwd=folder, **user)
        shutil.rmtree(folder)
