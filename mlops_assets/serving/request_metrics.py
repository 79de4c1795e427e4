"""What Prometheus sees of requests, over HTTP and gRPC; `code` is HTTP's in both."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from prometheus_client import Counter, Histogram

from mlops_assets.serving.http_answers import refusal_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

Found = TypeVar("Found")

SECONDS = Histogram(
    "model_request_duration_seconds",
    "Time from the whole request to its answer",
    ["model"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
REQUESTS = Counter("model_requests_total", "Requests by model and status", ["model", "code"])


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
            code = 200 if error is None else refusal_of(error).code if isinstance(error, Exception) else 499
            observe(self._model, code, time.perf_counter() - self._start)


def observe(model: str, code: int, seconds: float) -> None:
    """Count a request of a model that is served; names that callers make up have no series."""
    histogram, counter = _series(model, code)
    histogram.observe(seconds)
    counter.inc()


@lru_cache(4_096)
def _series(model: str, code: int) -> tuple[Any, Any]:
    return SECONDS.labels(model), REQUESTS.labels(model, code)
