"""The first process of a step pod: it runs Dagster's as its child, and keeps SIGTERM from it.

Dagster would record an interrupted step as failed. Here a step that is told to go says nothing, so that its executor,
who alone sees why the pod went, decides. The child gets SIGUSR1 instead, which ends it at once. A training handles it:
it writes a checkpoint first, and `exit_now` is its last word.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

STOP = signal.SIGUSR1
EXIT_TERMINATED = 128 + signal.SIGTERM


def exit_now(code: int = EXIT_TERMINATED) -> NoReturn:
    """End this process, by default as SIGTERM does, at once and without a word to Dagster."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(command: list[str]) -> int:
    """Run a command; its exit code, as a shell tells it."""
    asked: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if child is not None:
            child.send_signal(STOP)

    signal.signal(signal.SIGTERM, stop)
    child = subprocess.Popen(command)
    if asked:
        child.send_signal(STOP)
    code = child.wait()
    if asked and code != 0:
        return EXIT_TERMINATED
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
