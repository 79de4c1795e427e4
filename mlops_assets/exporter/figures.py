"""Every metric of the exporter, and its figures.

`model` is the model's name in MLflow and at endpoints, which is that of the predictors' own metrics too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

MAX_COLUMNS = 50


class Figure(NamedTuple):
    """One value of a metric of `METRICS`; the labels are in its order."""

    name: str
    labels: tuple[str, ...]
    value: float


class Described(NamedTuple):
    """What a metric is. A counter never falls, whatever is deleted where it is read."""

    source: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    told: str


def _gauge(source: str, told: str, *labels: str) -> Described:
    return Described(source, "gauge", ("model", *labels), told)


def _counter(source: str, told: str, *labels: str) -> Described:
    return Described(source, "counter", ("model", *labels), told)


METRICS: dict[str, Described] = {
    "model_info": _gauge("models", "1, with the task of the YAML and the first of its owners", "task", "owner"),
    "model_drift_threshold": _gauge("models", "The drift score above which drift is told: monitor.drift_threshold"),
    "model_gate_threshold": _gauge("models", "What the gate demands of its metric", "metric"),
    "model_stale_after_seconds": _gauge("models", "The age at which a training is too old: monitor.stale_after"),
    "model_retrain_budget": _gauge("models", "How many retrains may begin within seven days: retrain.per_week"),
    "model_champion_version": _gauge("registry", "The version with the alias champion"),
    "model_gate_metric": _gauge("registry", "The gate's metric of the champion on its test part", "metric"),
    "model_last_trained_timestamp_seconds": _gauge("registry", "When the newest version was registered"),
    "model_data_timestamp_seconds": _gauge("registry", "The newest moment of the data that the champion was made from"),
    "model_champion_since_timestamp_seconds": _gauge("ledgers", "When the champion became champion"),
    "model_champion_moves_total": _counter("ledgers", "Moves of the alias champion"),
    "model_rollout_steps_total": _counter("ledgers", "Steps of roll-outs, rolled_back among them", "state"),
    "model_drift_score": _gauge("drift", "The score of the newest drift report that has one: 0 to 1"),
    "model_drift_report_timestamp_seconds": _gauge("drift", "When that report was made"),
    "model_drift_rows": _gauge("drift", "The rows of that report's window"),
    "model_drifted_columns": _gauge("drift", "The columns that have drifted"),
    "model_column_drift": _gauge(
        "drift",
        f"How far a column has moved, as its method gives it; of the {MAX_COLUMNS} that have drifted or moved furthest",
        "column",
    ),
    "model_column_drifted": _gauge("drift", "1 where that is above the threshold of its method", "column"),
    "model_unlabelled_share": _gauge("drift", "The share of the window's rows whose label has not come"),
    "model_label_delay_seconds": _gauge("drift", "From answer to label, the median of the window's labels"),
    "model_live_metric": _gauge("drift", "A metric of the window's rows that have a label", "metric"),
    "model_training_rows_per_second": _gauge("runs", "Rows a second of the newest training of a network"),
    "model_check_passed": _gauge(
        "runs", "1 where the newest evaluation of a check has passed, else 0", "stage", "check"
    ),
    "model_retrain_total": _counter("runs", "Retrains by cause and by what became of them", "reason", "outcome"),
    "model_retrain_failures": _gauge("runs", "Retrains that have failed since one did not"),
    "model_retrains_of_week": _gauge("runs", "Retrains that were begun in the last seven days"),
    "dagster_runs": Described("runs", "gauge", ("status",), "Runs that have not ended"),
    "dagster_daemon_heartbeat_timestamp_seconds": Described(
        "runs", "gauge", ("daemon",), "The last sign of a thread of Dagster's daemon"
    ),
}
EXPORTER_METRICS: dict[str, Described] = {
    "model_exporter_up": Described("exporter", "gauge", ("source",), "1 where the last reading was in time and whole"),
    "model_exporter_last_success_timestamp_seconds": Described(
        "exporter", "gauge", ("source",), "When a source was last read"
    ),
    "model_exporter_unread_models": Described(
        "exporter", "gauge", ("source",), "Models of which the last reading got nothing; the log says why"
    ),
}


def table() -> str:
    """All metrics, as the page about them has them."""
    rows = ["| metric | labels | read of | it is |", "|---|---|---|---|"]
    for name, described in (METRICS | EXPORTER_METRICS).items():
        labels = ", ".join(f"`{label}`" for label in described.labels)
        rows.append(f"| `{name}` | {labels} | {described.source} | {described.told} |")
    return "\n".join(rows) + "\n"


def families(figures: Iterable[Figure]) -> Iterator[Metric]:
    """The figures as Prometheus' client writes them, a family for each metric."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    found: dict[str, Metric] = {}
    for figure in figures:
        described = (METRICS | EXPORTER_METRICS)[figure.name]
        family = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
        made = found.setdefault(figure.name, family(figure.name, described.told, labels=described.labels))
        made.add_metric(figure.labels, figure.value)  # pyright: ignore[reportAttributeAccessIssue]
    yield from found.values()
