"""The metrics: their names, kinds and labels are those of Prometheus' conventions, and the page lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlops_assets.exporter.figures import EXPORTER_METRICS, METRICS, Figure, families, table

PAGE = Path(__file__).parents[3] / "docs" / "production" / "metrics.md"


def test_a_counter_alone_is_called_total() -> None:
    for name, described in (METRICS | EXPORTER_METRICS).items():
        assert (described.kind == "counter") == name.endswith("_total"), name
        assert re.fullmatch("(model|dagster)_[a-z_]+", name)


def test_the_page_has_every_metric_as_it_is() -> None:
    assert table() in PAGE.read_text(), "put in what mlops_assets.exporter.figures.table() gives"


def test_figures_become_families_of_their_kind() -> None:
    figures = [
        Figure("model_drift_score", ("iris",), 0.25),
        Figure("model_rollout_steps_total", ("iris", "promoted"), 2),
        Figure("model_drift_score", ("flights",), 0.5),
    ]
    drift, steps = families(figures)
    assert (drift.type, drift.documentation) == ("gauge", METRICS["model_drift_score"].told)
    assert [(sample.labels, sample.value) for sample in drift.samples] == [
        ({"model": "iris"}, 0.25),
        ({"model": "flights"}, 0.5),
    ]
    [step] = steps.samples
    assert (steps.type, step.name, step.labels) == (
        "counter",
        "model_rollout_steps_total",
        {"model": "iris", "state": "promoted"},
    )


def test_a_figure_has_a_metric_that_is_described() -> None:
    with pytest.raises(KeyError):
        list(families([Figure("model_made_up", ("iris",), 1)]))
