"""What operators see is documented: the metrics of the model server. Variables and alerts have their own tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram, Summary

from mlops_assets.serving import request_metrics

DOCS = Path(__file__).parents[2] / "docs"
SUFFIXES = {Counter: "_total", Gauge: "", Histogram: "", Summary: ""}
METRICS = [
    f"{metric.describe()[0].name}{SUFFIXES[type(metric)]}"
    for metric in vars(request_metrics).values()
    if isinstance(metric, tuple(SUFFIXES))
]


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_of_the_model_server_is_documented(metric: str) -> None:
    pages = {path.name: path.read_text() for path in DOCS.rglob("*.md")}
    assert [name for name, text in pages.items() if f"`{metric}" in text]


def test_the_server_has_metrics() -> None:
    assert len(METRICS) >= 2
