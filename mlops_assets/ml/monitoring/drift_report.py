"""The drift report: a window of the inference log against the reference profile of the version that answered."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mlops_assets.ml.monitoring.column_drift import ColumnDrift, compare
from mlops_assets.ml.monitoring.live_performance import LivePerformance, live_performance
from mlops_assets.ml.values import Document

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mlops_assets.ml.monitoring.log_window import Answerer, LogWindow
    from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile

Status = Literal["measured", "not enough data", "no reference"]


class DriftReport(Document):
    """What a window of the inference log says; a score there is only where `status` is `measured`."""

    FILE = "drift_report.json"

    first_day: date
    last_day: date
    computed_at: datetime
    status: Status
    reason: str = ""
    """Why there is no score."""
    version: str | None = None
    """The version that answered last, whose rows are those that count."""
    rows: int = 0
    other_rows: int = 0
    """Rows that other versions answered."""
    score: float | None = None
    columns: tuple[ColumnDrift, ...] = ()
    importance: dict[str, float] = Field(default_factory=dict)
    """The share of each column in the score."""
    predictions: tuple[ColumnDrift, ...] = ()
    skipped: dict[str, str] = Field(default_factory=dict)
    """Why a column is not compared."""
    performance: LivePerformance | None = None
    label_delay_s: float | None = None
    """From answer to label, about the median."""
    test_metrics: dict[str, float] = Field(default_factory=dict)
    """What the version was worth on the test part, beside the performance."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """The inputs that have drifted, the most important ones first."""
        found = [column.column for column in self.columns if column.drifted]
        return tuple(sorted(found, key=lambda name: (-self.importance[name], name)))


def model_drift_score(drifted: Mapping[str, bool], importance: Mapping[str, float]) -> float:
    """The share of columns that have drifted, each weighted by its permutation importance: from 0 to 1.

    A column whose importance is not above 0 has no weight; where none has one, all weigh the same.

    >>> model_drift_score({"a": True, "b": False, "c": True}, {"a": 0.25, "b": 0.75, "c": -0.01})
    0.25
    """
    weights = column_weights(list(drifted), importance)
    return min(math.fsum(weights[name] for name, has_drifted in drifted.items() if has_drifted), 1.0)


def column_weights(columns: Sequence[str], importance: Mapping[str, float]) -> dict[str, float]:
    """The share of each column in the score; they add up to 1."""
    weights = {name: max(importance.get(name, 0.0), 0.0) for name in columns}
    total = sum(weights.values())
    return {name: weight / total if total else 1 / len(columns) for name, weight in weights.items()}


def drift_report(
    window: LogWindow,
    answerer: Answerer,
    reference: ReferenceProfile,
    days: tuple[date, date],
    min_rows: int,
    left_out: Collection[str] = (),
) -> DriftReport:
    """The report of a window with the rows of `answerer`; of fewer than `min_rows` it has no figures.

    `left_out` are the columns that the log is to leave out.
    """
    facts = answerer.model_dump()
    if answerer.rows < min_rows:
        reason = f"version {answerer.version} has answered {answerer.rows:,} rows, and monitor.min_rows is {min_rows:,}"
        return report_without_score(days, "not enough data", reason, **facts)
    features, predictions, skipped = window.profiles(answerer.version, reference, left_out)
    if not features:
        return report_without_score(days, "not enough data", "no column can be compared", skipped=skipped, **facts)
    columns = [compare(name, reference.features[name], found) for name, found in features.items()]
    drifted = {column.column: column.drifted for column in columns}
    labelled, truths = window.truths(answerer.version, reference)
    return DriftReport(
        first_day=days[0],
        last_day=days[1],
        computed_at=datetime.now(UTC),
        status="measured",
        score=model_drift_score(drifted, reference.importance),
        columns=tuple(columns),
        importance=column_weights(list(drifted), reference.importance),
        predictions=tuple(compare(name, reference.predictions[name], found) for name, found in predictions.items()),
        skipped=skipped,
        performance=live_performance(truths, reference.labels, answerer.rows, labelled),
        label_delay_s=window.label_delay_s(answerer.version),
        test_metrics=reference.metrics,
        **facts,
    )


def report_without_score(days: tuple[date, date], status: Status, reason: str, **facts: Any) -> DriftReport:
    """A report that says why it has no score."""
    moment = datetime.now(UTC)
    return DriftReport(first_day=days[0], last_day=days[1], computed_at=moment, status=status, reason=reason, **facts)
