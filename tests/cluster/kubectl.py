"""kubectl: objects of the cluster, and scripts that run in its pods."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "mlops-test"
LOST = ("TLS handshake timeout", "client connection lost", "i/o timeout")
SCRIPTS = Path(__file__).parent / "scripts"


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """The output of kubectl; what only reads is tried again where the connection was lost, as on a busy machine."""
    for left in (2, 1, 0):
        done = subprocess.run(["kubectl", *arguments], input=stdin, text=True, capture_output=True, check=False)
        if not (left and arguments[0] == "get" and any(sign in done.stderr for sign in LOST)):
            break
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def objects(*arguments: str) -> list[dict[str, Any]]:
    """What `kubectl get` lists."""
    return json.loads(kubectl("get", *arguments, "-o", "json"))["items"]


def create(item: dict[str, Any]) -> None:
    """Create an object."""
    kubectl("create", "-f", "-", stdin=json.dumps(item))


@contextmanager
def forwarded(target: str, port: int) -> Iterator[int]:
    """A port of this machine that leads to one of a Service or a Deployment's pod, while the block runs."""
    local = free_port()
    command = ["kubectl", "-n", NAMESPACE, "port-forward", target, f"{local}:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forward:
        try:
            yield local
        finally:
            forward.kill()


def names(items: list[dict[str, Any]]) -> set[str]:
    """The names of objects."""
    return {item["metadata"]["name"] for item in items}


def run_script(name: str, *arguments: str, pod: str = "deploy/dagster-code", check: bool = True) -> str:
    """What `scripts/<name>.py` prints in a pod. It goes there by standard input, so images need not hold it."""
    command = ("exec", "-i", "-n", NAMESPACE, pod, "--", "python", "-", *arguments)
    return kubectl(*command, stdin=(SCRIPTS / f"{name}.py").read_text(), check=check)
