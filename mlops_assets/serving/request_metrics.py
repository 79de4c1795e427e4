"""What Prometheus sees of requests, over HTTP and gRPC; `code` is HTTP's in both."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Self, TypeVar

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from mlops_assets.serving.http_answers import CALLER_GONE, refusal_of
from mlops_assets.serving.tally import Distribution, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable, Sequence

    from prometheus_client import Metric

Found = TypeVar("Found")
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class RequestMetrics(Tally[tuple[str, int, float]]):
    """`model_requests_total` and the histogram `model_request_duration_seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = dict[str, Distribution]()
        self._requests = Counter[tuple[str, int]]()

    def count(self, seen: Sequence[tuple[str, int, float]]) -> None:
        """Count requests by model, status and seconds."""
        seconds = defaultdict[str, list[float]](list)
        for model, code, took in seen:
            self._requests[model, code] += 1
            seconds[model].append(took)
        for model, values in seconds.items():
            self._seconds.setdefault(model, Distribution(BUCKETS_S)).add(values)

    def families(self) -> Iterable[Metric]:
        """As Prometheus wants it."""
        requests = CounterMetricFamily("model_requests", "Requests by model and status", labels=["model", "code"])
        for (model, code), count in self._requests.items():
            requests.add_metric([model, str(code)], count)
        yield requests
        about = "Time from the whole request to its answer"
        seconds = HistogramMetricFamily("model_request_duration_seconds", about, labels=["model"])
        for model, found in self._seconds.items():
            found.add_to(seconds, model)
        yield seconds


REQUESTS = RequestMetrics()
REGISTRY.register(REQUESTS)


class Counting:
    """Counts a request of a model with what its block ends with: 200, or the status of what it raises."""

    def __init__(self, model: str) -> None:
        self._model, self._later = model, False
        self.begin()

    def begin(self) -> None:
        """Take the time from now on."""
        self._start = time.perf_counter()

    def to_its_end(self, asked: Awaitable[Found]) -> Coroutine[Any, Any, Found]:
        """The same, which is counted when it has ended, and not with the block."""
        self._later = True
        return self._counted(asked)

    async def _counted(self, asked: Awaitable[Found]) -> Found:
        self._later = False
        with self:
            return await asked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not self._later:
            code = 200 if error is None else refusal_of(error).code if isinstance(error, Exception) else CALLER_GONE
            observe(self._model, code, time.perf_counter() - self._start)


def observe(model: str, code: int, seconds: float) -> None:
    """Count a request of a model that is served; names that callers make up have no series."""
    REQUESTS.add((model, code, seconds))
