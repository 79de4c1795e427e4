"""The process of a step pod: Dagster's, with SIGTERM kept from it.

Dagster would record an interrupted step as failed. Here a step that is told to go says nothing, so that its executor,
who alone sees why the pod went, decides. Training asks `stop_requested` and writes a checkpoint first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

EXIT_TERMINATED = 128 + signal.SIGTERM


class Interruption:
    """Whether this process was asked to go."""

    def __init__(self) -> None:
        self.listening = False
        self._requested = threading.Event()
        self._heeded = False

    def listen(self) -> None:
        """Take SIGTERM from all other handlers. Call it before any other thread starts: they inherit the block."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self.listening = True
        threading.Thread(target=self._wait, daemon=True, name="interruption").start()

    @contextmanager
    def heed(self) -> Generator[Callable[[], bool]]:
        """Within the block the process stays when it is asked to go, until what it does has ended: with the block."""
        self._heeded = True
        try:
            yield self._requested.is_set
        finally:
            self._heeded = False
            if self._requested.is_set():
                leave()

    def _wait(self) -> None:
        signal.sigwait({signal.SIGTERM})
        self._requested.set()
        if not self._heeded:
            leave()


def leave() -> None:
    """End the process as SIGTERM does, at once and without a word to Dagster."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_TERMINATED)


def main(arguments: list[str]) -> None:
    """Run `dagster ...`, as the executor asked."""
    # `python -m` makes this module __main__; the steps ask the imported one
    from resources.step_pod import interruption as shared

    shared.listen()
    from dagster._cli import main as dagster

    sys.argv = arguments
    dagster()


interruption = Interruption()

if __name__ == "__main__":
    main(sys.argv[1:])
