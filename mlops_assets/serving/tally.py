"""Counts what requests are like, for Prometheus, in less time than its client takes for each of them alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike
    from prometheus_client import Metric
    from prometheus_client.core import HistogramMetricFamily

AT_ONCE = 500  # rows; a request has at least one
Seen = TypeVar("Seen")


class Tally(Collector, Generic[Seen]):
    """What was seen of requests. Each only joins a queue; many are counted together, and all when Prometheus asks."""

    def __init__(self) -> None:
        self._queue, self._rows, self._lock = deque[Seen](), 0, Lock()

    def add(self, seen: Seen, rows: int = 1) -> None:
        """Count what was seen of a request."""
        self._queue.append(seen)
        self._rows += rows
        if self._rows >= AT_ONCE:
            with self._lock:
                self._count_queue()

    def _count_queue(self) -> None:
        self._rows = 0
        self.count([self._queue.popleft() for _ in range(len(self._queue))])

    def collect(self) -> Iterable[Metric]:
        """As Prometheus wants it."""
        with self._lock:
            self._count_queue()
            return [*self.families()]

    def count(self, seen: Sequence[Seen]) -> None:
        """Add to the counts; one thread at a time does."""
        raise NotImplementedError

    def families(self) -> Iterable[Metric]:
        """The counts, while no thread adds to them."""
        raise NotImplementedError


class Distribution:
    """Values that were counted between edges."""

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges, self.total = edges, 0.0
        self.counts = [0] * (len(edges) + 1)

    def add(self, values: ArrayLike) -> None:
        """Count values, shape (rows,); what is no number is left out."""
        found = np.asarray(values, np.float64)
        known = found[np.isfinite(found)]
        if len(known) == 1:
            self.counts[bisect_left(self.edges, known[0])] += 1
        else:
            counted = np.bincount(np.searchsorted(self.edges, known), minlength=len(self.counts))
            self.counts = [before + more for before, more in zip(self.counts, counted.tolist(), strict=True)]
        self.total += float(known.sum())

    def add_to(self, family: HistogramMetricFamily, *labels: str) -> None:
        """Give Prometheus the values up to each edge, in sum."""
        names: list[Any] = [*map(floatToGoString, self.edges), "+Inf"]
        family.add_metric(labels, [*zip(names, accumulate(self.counts), strict=True)], self.total)
