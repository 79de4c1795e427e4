"""Sources that are read again and again, each in a thread of its own: one that is away or hangs never stops another.

A scrape waits for nobody and gets what each source gave last. What is older than `FORGOTTEN_S` it does not get, so that
no alert rests on figures of yesterday; `model_exporter_up` says why they are missing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from mlops_assets.exporter.figures import Figure, families
from mlops_assets.exporter.sources import Reading

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

EVERY_S = 30.0
IN_TIME_S = 3 * EVERY_S  # a reading that takes longer counts as failed
FORGOTTEN_S = 900.0  # a restart of MLflow or of a database is shorter
log = logging.getLogger(__name__)


class Source:
    """One place that figures come from; `read` may take its time, fail or hang."""

    def __init__(self, name: str, read: Callable[[], Reading]) -> None:
        self.name, self._read = name, read
        self._last, self._at, self._whole = Reading(()), 0.0, False

    def refresh(self) -> None:
        """Read it once; what went wrong is told in the log, and the figures of before stay for a while."""
        try:
            self._last, self._at = self._read(), time.time()
            self._whole = self._last.unread == 0
        except Exception as error:  # the exporter outlives whatever a source may raise
            log.warning("%s cannot be read: %s", self.name, error)
            self._whole = False

    def run(self, stop: threading.Event) -> None:
        """Read it until `stop` is set."""
        while not stop.is_set():
            self.refresh()
            stop.wait(EVERY_S)

    def figures(self, now: float) -> Iterator[Figure]:
        """What it gave last, and how far that can be trusted."""
        age = now - self._at
        yield Figure("model_exporter_up", (self.name,), self._whole and age < IN_TIME_S)
        yield Figure("model_exporter_last_success_timestamp_seconds", (self.name,), self._at)
        yield Figure("model_exporter_unread_models", (self.name,), self._last.unread)
        if age < FORGOTTEN_S:
            yield from self._last.figures


class Figures(Collector):
    """What a scrape gets: the figures of all sources."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(sources)

    def collect(self) -> Iterable[Metric]:
        """The families of all figures."""
        now = time.time()
        return families(figure for source in self._sources for figure in source.figures(now))
