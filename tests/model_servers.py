"""A model server as a process of its own, with one model, `m`, which multiplies its number `x`, mostly by two."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlops_assets.serving.declaration import Declaration, ServedVersion
from tests.artifacts import write_artifact
from tests.support import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlops_assets.serving.log_policy import InferenceLogPolicy

PROJECT = Path(__file__).parents[1]


class ModelServer(NamedTuple):
    """Where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    grpc_port: int
    log: Path

    @property
    def url(self) -> str:
        """Its address over HTTP."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def model_server(
    folder: Path,
    *options: str,
    lines: str = "",
    explain: bool = False,
    policy: InferenceLogPolicy | None = None,
    version: str = "1",
    factor: float = 2.0,
) -> Generator[ModelServer]:
    """A server of this folder while the block runs; `lines` of Python are run before it starts."""
    signature = write_artifact(folder / "models/m" / version, factor)
    served = ServedVersion(folder=version, sha256=signature.sha256, version=version, explain=explain, log=policy)
    as_candidate = "--candidates" in options
    declared = Declaration(candidate=served) if as_candidate else Declaration(champion=served)
    declared.write(folder / "models/m")
    port, grpc_port = free_port(), free_port()
    arguments = ["--models", str(folder / "models"), "--port", str(port), "--grpc-port", str(grpc_port), *options]
    # Whoever runs these tests may ignore the signal, and what is ignored is inherited
    heard = "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL)"
    program = f"{heard}\n{lines}\nfrom mlops_assets.serving.model_server import main\nmain({arguments!r})"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield ModelServer(process, port, grpc_port, folder / "log")
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/live", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
