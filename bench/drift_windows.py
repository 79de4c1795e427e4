"""How often a drift report is wrong: windows without drift, and windows in which one important column has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bench.drift import TEXTS, columns, logged, profile, report_of
from bench.measure import Result, result, scratch
from mlops_assets.ml.monitoring.monitor_policy import MonitorPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from mlops_assets.ml.monitoring.drift_report import DriftReport

REFERENCE_ROWS, WINDOW_ROWS = 20_000, 1_000
UNDRIFTED, DRIFTED = 500, 100
EFFECT = 0.25  # standard deviations by which the important column moves
IMPORTANCE = {"n0": 0.5} | dict.fromkeys(("n1", "n2", "n3", "n4", "n5", "n6", "n7", "place", "kind"), 0.05)
THRESHOLD = MonitorPolicy().drift_threshold


class Window(NamedTuple):
    """Our report of a window, and its rows beside those of the reference."""

    report: DriftReport
    before: pd.DataFrame
    now: pd.DataFrame

    @property
    def alarms(self) -> bool:
        """Whether the score is above the threshold of a YAML that says nothing."""
        return self.report.score is not None and self.report.score > THRESHOLD


def windows(folder: Path, count: int, effect: float, reference_rows: int = REFERENCE_ROWS) -> Iterator[Window]:
    """So many seeded windows in whose important column the values are `effect` deviations larger than before."""
    train = pa.table(columns(reference_rows, 0, 0.0))
    pq.write_table(train, folder / "train.parquet")
    reference = profile(folder, IMPORTANCE)
    for seed in range(1, count + 1):
        made = columns(WINDOW_ROWS, seed, 0.0)
        made["n0"] = made["n0"] + effect
        pq.write_table(logged(made), folder / "log.parquet")
        yield Window(report_of(folder / "log.parquet", reference), train.to_pandas(), pa.table(made).to_pandas())


def evidently(window: Window) -> dict[str, bool]:
    """The verdict by column of the tests that Evidently's preset calls; its page of a window takes a second."""
    from evidently.legacy.calculations.stattests.registry import get_stattest
    from evidently.legacy.core import ColumnType

    verdicts = dict[str, bool]()
    for name in window.before:
        kind = ColumnType.Categorical if name in TEXTS else ColumnType.Numerical
        rows = window.before[name], window.now[name]
        verdicts[name] = bool(get_stattest(*rows, kind, None)(*rows, kind, None).drifted)
    return verdicts


def measure() -> list[Result]:
    """Shares of windows, in percent; Evidently's verdict on a window is that half of its columns have drifted."""
    figures, other = list[float](), 0
    for count, effect in ((UNDRIFTED, 0.0), (DRIFTED, EFFECT)):
        mine = theirs = 0
        with scratch() as folder:
            for window in windows(folder, count, effect):
                verdicts = evidently(window)
                mine += window.alarms
                theirs += sum(verdicts.values()) >= len(verdicts) / 2
                other += any(
                    column.drifted != verdicts[column.column] and abs(column.value - column.threshold) > column.error
                    for column in window.report.columns
                )
        figures += [100 * mine / count, 100 * theirs / count]
    alarm, detected = f"false alarms in {UNDRIFTED} windows", f"windows with a shift of {EFFECT} deviations, detected"
    theirs_too = "Evidently's (half of the columns)"
    return [
        result(alarm, figures[0], "%", "", None, goal=("<=", 2, "%")),
        result(f"{alarm}, {theirs_too}", figures[1], "%", "", None, goal=("<=", 2, "%")),
        result(detected, figures[2], "%", "", None, goal=(">=", 99, "%")),
        result(f"{detected}, {theirs_too}", figures[3], "%", "", None, goal=(">=", 0, "%")),
        result(
            "windows with a verdict other than Evidently's, beyond its stated error",
            other,
            "windows",
            "",
            None,
            goal=("<=", 0, "windows"),
        ),
    ]
