"""What Prometheus sees of requests, over HTTP and gRPC; `code` is HTTP's in both."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Histogram

CALLER_GONE = 499  # nginx's: who asked did not wait for the answer, which is no fault of the server
SECONDS = Histogram(
    "model_request_duration_seconds",
    "Time from the whole request to its answer",
    ["model"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
REQUESTS = Counter("model_requests_total", "Requests by model and status", ["model", "code"])


def observe(model: str, code: int, seconds: float) -> None:
    """Count a request of a model that is served; names that callers make up have no series."""
    histogram, counter = _series(model, code)
    histogram.observe(seconds)
    counter.inc()


@lru_cache(4_096)
def _series(model: str, code: int) -> tuple[Any, Any]:
    return SECONDS.labels(model), REQUESTS.labels(model, code)
