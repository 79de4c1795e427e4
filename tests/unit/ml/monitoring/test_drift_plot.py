"""The plot of a drift report, whatever is in it."""

from __future__ import annotations

from datetime import UTC, date, datetime

from mlops_assets.ml.monitoring.column_drift import ColumnDrift, Method
from mlops_assets.ml.monitoring.drift_plot import drift_plot
from mlops_assets.ml.monitoring.drift_report import DriftReport, column_weights


def column(name: str, method: Method, value: float, threshold: float) -> ColumnDrift:
    drifted = value < threshold if method.endswith("p_value") else value >= threshold
    shares = {"missing": 0.0, "reference_missing": 0.0, "outside": 0.0}
    return ColumnDrift(column=name, method=method, value=value, threshold=threshold, drifted=drifted, **shares)


def report(*columns: ColumnDrift) -> DriftReport:
    return DriftReport(
        first_day=date(2026, 11, 11),
        last_day=date(2026, 11, 17),
        computed_at=datetime(2026, 11, 18, tzinfo=UTC),
        status="measured",
        score=0.5,
        columns=columns,
        importance=column_weights([item.column for item in columns], {}),
        predictions=(column("label", "Jensen-Shannon distance", 0.02, 0.1),),
    )


def test_it_is_a_picture_of_one_column_or_many_with_any_name() -> None:
    one = drift_plot(report(column("price in $ of $a_b$", "K-S p_value", 0.0, 0.05)))
    many = drift_plot(
        report(*(column("x" * 80 + str(i), "Wasserstein distance (normed)", 9e9, 0.1) for i in range(50)))
    )
    assert one.startswith(b"\x89PNG")
    assert many.startswith(b"\x89PNG")
    assert one != many
