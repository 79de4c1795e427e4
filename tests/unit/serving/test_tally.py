"""Each thing that was seen is counted once, however many threads see it and whenever Prometheus asks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from mlops_assets.serving.tally import AT_ONCE, Distribution, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import Metric


class Sum(Tally[int]):
    """Adds numbers."""

    total = pieces = 0

    def count(self, seen: Sequence[int]) -> None:
        self.total += sum(seen)
        self.pieces += bool(seen)

    def families(self) -> Iterable[Metric]:
        yield CounterMetricFamily("numbers", "", value=self.total)

    @property
    def scraped(self) -> float:
        [family] = self.collect()
        return family.samples[0].value


def test_what_was_seen_is_there_when_it_is_asked_for() -> None:
    tally = Sum()
    for number in range(3):
        tally.add(number)
    assert tally.total == 0
    assert (tally.scraped, tally.scraped) == (3, 3)


def test_many_rows_do_not_wait() -> None:
    tally = Sum()
    tally.add(7, rows=AT_ONCE)
    assert tally.total == 7
    for _ in range(AT_ONCE):
        tally.add(1)
    assert (tally.total, tally.pieces) == (7 + AT_ONCE, 2)


def test_threads_that_see_and_ask_at_once_lose_and_double_nothing() -> None:
    tally, stop = Sum(), threading.Event()

    def see() -> None:
        for _ in range(20_000):
            tally.add(1)

    def ask() -> None:
        while not stop.is_set():
            assert tally.scraped <= 80_000

    seeing, asking = [threading.Thread(target=see) for _ in range(4)], threading.Thread(target=ask)
    for thread in (*seeing, asking):
        thread.start()
    for thread in seeing:
        thread.join()
    stop.set()
    asking.join()
    assert tally.scraped == 80_000


@given(st.lists(st.lists(st.floats(width=32), max_size=20), max_size=5))
def test_values_are_counted_up_to_each_edge_and_what_is_no_number_is_left_out(parts: list[list[float]]) -> None:
    edges = [-1.0, 0.0, 2.5]
    found, family = Distribution(edges), HistogramMetricFamily("values", "", labels=["of"])
    for part in parts:
        found.add(np.array(part, np.float32))
    known = [value for part in parts for value in part if np.isfinite(value)]
    found.add_to(family, "me")
    counts = {sample.labels.get("le"): sample.value for sample in family.samples if sample.name == "values_bucket"}
    wanted = {str(edge): sum(value <= edge for value in known) for edge in edges}
    assert counts == wanted | {"+Inf": len(known)}
