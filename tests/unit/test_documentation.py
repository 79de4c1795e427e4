"""What operators see is documented: the metrics of the model server. Variables and alerts have their own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_assets.serving.answer_metrics import ANSWERS
from mlops_assets.serving.request_metrics import REQUESTS

DOCS = Path(__file__).parents[2] / "docs"
METRICS = [
    f"{family.name}{'_total' if family.type == 'counter' else ''}"
    for tally in (REQUESTS, ANSWERS)
    for family in tally.families()
]


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_of_the_model_server_is_documented(metric: str) -> None:
    pages = {path.name: path.read_text() for path in DOCS.rglob("*.md")}
    assert [name for name, text in pages.items() if f"`{metric}" in text]


def test_the_server_has_metrics() -> None:
    assert len(METRICS) >= 4
