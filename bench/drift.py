"""A drift report on every row of a window against Evidently's preset on the same rows: time, memory and verdicts."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.measure import Result, in_process, result, scratch, seconds
from bench.preparation import watched_peak_mib
from mlops_assets.ml.inference.artifact import GoldenRows, InputColumn, ModelSignature
from mlops_assets.ml.monitoring.drift_report import DriftReport, drift_report
from mlops_assets.ml.monitoring.log_window import open_window
from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile, reference_profile

if TYPE_CHECKING:
    import pandas as pd

ROWS, MORE_ROWS, PART = 1_000_000, 10_000_000, 500_000
TEXTS = ("place", "kind")
NUMBERS = tuple(f"n{index}" for index in range(8))
SIGNATURE = ModelSignature(
    model="bench",
    task="regression",
    inputs=(
        *(InputColumn(name=name, dtype="float32") for name in NUMBERS),
        *(InputColumn(name=name, dtype="string") for name in TEXTS),
    ),
    classes=None,
    sha256="",
    golden=GoldenRows(rows=(), outputs={}),
)
DAYS = date(2026, 11, 11), date(2026, 11, 17)


def columns(rows: int, seed: int, shift: float) -> dict[str, Any]:
    """Ten columns, of which `shift` moves three."""
    generator = np.random.default_rng(seed)
    numbers = [
        generator.normal(shift, 1, rows),
        generator.normal(0, 1, rows),
        generator.lognormal(0, 1, rows),
        generator.exponential(1 + shift, rows),
        generator.uniform(0, 1, rows),
        generator.integers(0, 24, rows),
        generator.integers(0, 2, rows),
        generator.normal(1e6, 1e3, rows),
    ]
    made: dict[str, Any] = {name: values.astype(np.float32) for name, values in zip(NUMBERS, numbers, strict=True)}
    made["place"] = pa.array(np.array([f"p{index}" for index in range(50)])[generator.integers(0, 50, rows)])
    share = 0.2 + shift / 2
    made["kind"] = pa.array(np.array(["a", "b", "c"])[generator.choice(3, rows, p=[share, 0.3, 0.7 - share])])
    return made


def logged(made: dict[str, Any], start: int = 0) -> pa.Table:
    """Rows as the table of a day has them, the first one `start` microseconds after noon."""
    numbers = np.arange(start, start + len(made["n0"]))
    count = len(numbers)
    noon = np.datetime64("2026-11-17T12:00:00", "us")
    return pa.table(
        {
            "request_id": pa.array(numbers).cast(pa.string()),
            "row": pa.array(np.zeros(count, np.int32)),
            "time": pa.array(noon + numbers, pa.timestamp("us", tz="UTC")),
            "version": pa.repeat("1", count),
            "role": pa.repeat("champion", count),
            "output:prediction": made["n0"].astype(np.float64),
            "label": pa.nulls(count, pa.string()),
            "label_time": pa.nulls(count, pa.timestamp("us", tz="UTC")),
            **{f"input:{column}": values for column, values in made.items()},
        }
    )


def write_tables(folder: Path, rows: int) -> None:
    """The train part as train.parquet, and a window as log.parquet."""
    for start in range(0, rows, PART):
        parts = pa.table(columns(PART, 1 + start, 0.0)), logged(columns(PART, 2 + start, 0.3), start)
        if not start:
            writers = [
                pq.ParquetWriter(folder / f"{name}.parquet", part.schema, compression="zstd")
                for name, part in zip(("train", "log"), parts, strict=True)
            ]
        for writer, part in zip(writers, parts, strict=True):
            writer.write_table(part, row_group_size=65_536)
    for writer in writers:
        writer.close()


def profile(folder: Path, importance: dict[str, float] | None = None) -> ReferenceProfile:
    """The reference profile, as the evaluation makes it."""
    answers = columns(100_000, 3, 0.0)["n0"]
    made = reference_profile(folder, SIGNATURE, answers, importance or {}, {})
    made.write(folder)
    return made


def report_of(table: Path, reference: ReferenceProfile) -> DriftReport:
    """Our report from a profile and a table."""
    with open_window([table]) as window:
        answerer = window.answerer()
        assert answerer is not None
        return drift_report(window, answerer, reference, DAYS, 500)


def ours(folder: Path) -> dict[str, bool]:
    """Our verdict by column."""
    report = report_of(folder / "log.parquet", ReferenceProfile.read(folder))
    return {column.column: column.drifted for column in report.columns}


def evidently(folder: Path) -> dict[str, bool]:
    """The verdict by column of Evidently's preset on all rows of both tables."""
    import pandas as pd

    before = pd.read_parquet(folder / "train.parquet")
    now = pd.read_parquet(folder / "log.parquet", columns=[f"input:{name}" for name in before])
    return preset(before, now.set_axis(before.columns, axis=1))


def preset(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, bool]:
    """The verdict by column of Evidently's preset."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(NUMBERS), categorical_columns=list(TEXTS))
    datasets = [Dataset.from_pandas(frame, definition) for frame in (now, before)]
    found = Report([DataDriftPreset()], include_tests=True).run(*datasets).dict()
    tests = {test["name"]: test["status"] == "FAIL" for test in found["tests"]}
    return {name: tests[f"Value Drift for column {name}"] for name in before}


def report_figures() -> None:
    """In a process of its own that has imported all: seconds, peak memory in MiB and verdicts of one of the two."""
    who, folder = sys.argv[1], Path(sys.argv[2])
    work = {"ours": ours, "evidently": evidently}[who]
    if who == "evidently":
        from evidently.presets import DataDriftPreset  # noqa: F401 - five seconds that are not counted
    else:
        import duckdb  # noqa: F401
        from scipy import stats  # noqa: F401
    verdicts = dict[str, bool]()
    taken = list[float]()
    peak = watched_peak_mib(lambda: taken.append(seconds(lambda: verdicts.update(work(folder)))))
    sys.stdout.write(json.dumps({"seconds": taken[0], "peak": peak, "verdicts": verdicts}) + "\n")


def measure() -> list[Result]:
    """All figures of drift reports."""
    anchor = "Evidently's DataDriftPreset on all rows"
    with scratch() as folder:
        write_tables(folder, ROWS)
        making = seconds(lambda: profile(folder))
        size = (folder / ReferenceProfile.FILE).stat().st_size / 1024
        mine, theirs = (in_process(report_figures, who, folder) for who in ("ours", "evidently"))
    with scratch() as folder:
        write_tables(folder, MORE_ROWS)
        profile(folder)
        large = in_process(report_figures, "ours", folder)
    other = sum(mine["verdicts"][name] != verdict for name, verdict in theirs["verdicts"].items())
    drifted = ", ".join(name for name, verdict in mine["verdicts"].items() if verdict)
    title = "drift report, 1M rows x 10 columns"
    return [
        result(title, mine["seconds"], "s", anchor, theirs["seconds"], goal=("<=", 3, "s"), better="less"),
        result(
            f"{title}, peak memory", mine["peak"], "MiB", anchor, theirs["peak"], goal=(">=", 2, "x"), better="less"
        ),
        result(
            f"{title}, other verdicts ({drifted} drifted)", other, "columns", anchor, None, goal=("<=", 0, "columns")
        ),
        result(
            "drift report, 10M rows x 10 columns, peak memory",
            large["peak"],
            "MiB",
            "1M rows",
            mine["peak"],
            goal=("<=", 1024, "MiB"),
            better="less",
        ),
        result("reference profile of 1M rows x 10 columns", size, "KiB", "", None, goal=("<=", 400, "KiB")),
        result("making it", making, "s", "", None, goal=("<=", 10, "s")),
    ]
