"""The images: their sizes, and how long a node that has none takes until a step's process has loaded the code location.

Measured on those that `make images CONTAINER=podman` has made, by podman with a store of its own for each. Unpacking an
archive stands for the pull: network and gzip come on top, and grow with the size too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from bench.measure import Result, command_seconds, in_turn, result, say, scratch

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("platform", "trainer", "predictor")
LOAD = ("python", "-c", "import mlops_assets.definitions")
TRAINER = "mlops-trainer"


def measure() -> list[Result]:
    """Sizes and times; nothing where podman or an image is not there."""
    if shutil.which("podman") is None:
        say("   left out: there is no podman")
        return []
    inspect = ["podman", "image", "inspect", *(f"localhost/mlops-{name}:latest" for name in NAMES)]
    asked = subprocess.run(inspect, capture_output=True, check=False)
    if asked.returncode:
        say("   left out: make images CONTAINER=podman has not been run")
        return []
    platform, trainer, predictor = (found["Size"] / 1e9 for found in json.loads(asked.stdout))
    with scratch() as folder:
        nodes = [Node(folder / name, name) for name in ("platform", "trainer")]
        try:
            unpack, unpack_trainer = (node.unpack() for node in nodes)
            cold, cold_trainer = in_turn(3, *(node.first_start for node in nodes))
            warm, warm_trainer = in_turn(5, *(node.start for node in nodes))
        finally:
            for node in nodes:
                node.clear()
    times = (
        ("unpacking mlops-platform", unpack, unpack_trainer, 2),
        ("first container of mlops-platform on a node, until it has loaded the models", cold, cold_trainer, 0.8),
        ("another container of mlops-platform there", warm, warm_trainer, 0.8),
    )
    return [
        result("size of mlops-platform", platform, "GB", TRAINER, trainer, goal=("<=", 2, "GB"), better="less"),
        result("size of mlops-predictor", predictor, "GB", "", None, goal=("<=", 1, "GB")),
        *(
            result(name, ours, "s", TRAINER, its, goal=(">=", least, "x"), better="less")
            for name, ours, its, least in times
        ),
    ]


class Node:
    """A store of images of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.image = folder, f"localhost/mlops-{name}:latest"
        self.podman = ["podman", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        folder.mkdir()

    def unpack(self) -> float:
        """Seconds until the image, which lies in an archive, can be run."""
        archive = self.folder / "image.tar"
        command_seconds(["podman", "save", "--quiet", "--output", str(archive), self.image])
        _forget(self.folder)
        found = command_seconds([*self.podman, "load", "--quiet", "--input", str(archive)])
        archive.unlink()
        return found

    def start(self) -> float:
        """Seconds until a container has loaded the code location, and ended."""
        writable = ("--tmpfs", "/tmp", "--tmpfs", "/var/lib/mlops")
        return command_seconds([*self.podman, "run", "--rm", "--read-only", *writable, self.image, *LOAD])

    def first_start(self) -> float:
        """The same, with no file of the image in memory."""
        _forget(self.folder)
        return self.start()

    def clear(self) -> None:
        """Empty the store, and take away what podman has mounted there."""
        subprocess.run([*self.podman, "rmi", "--all", "--force"], capture_output=True, check=False)
        subprocess.run(["umount", str(self.folder / "store/overlay")], capture_output=True, check=False)


def _forget(folder: Path) -> None:
    """Let the kernel drop from memory what lies in a folder."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
