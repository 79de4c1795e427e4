"""A day's inference log and labels made one table, against pandas on the same files: rows a second and memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.drift import columns, logged
from bench.measure import Result, in_process, result, scratch, seconds
from bench.preparation import watched_peak_mib
from mlops_assets.ml.monitoring.compact_log import compact

FILES, ROWS_OF_FILE = 1_000, 1_000
LABEL_FILES, LABELS_OF_FILE = 100, 8_000  # of 1,000,000 rows; some get more than one
LABELS = ("label", "label_time")


def write_day(folder: Path) -> None:
    """What servers have stored in a day: small files of rows, and of labels that came in any order."""
    for name in ("asked", "told"):
        (folder / name).mkdir()
    for number in range(FILES):
        rows = logged(columns(ROWS_OF_FILE, number, 0.0), number * ROWS_OF_FILE).drop_columns(list(LABELS))
        pq.write_table(rows, folder / f"asked/{number}.parquet", compression="zstd")
    generator = np.random.default_rng(7)
    for number in range(LABEL_FILES):
        ids = generator.integers(0, FILES * ROWS_OF_FILE, LABELS_OF_FILE)
        moment = pa.array(np.datetime64("2026-11-18", "us") + number * LABELS_OF_FILE + np.arange(LABELS_OF_FILE))
        told = {
            "request_id": pa.array(ids).cast(pa.string()),
            "row": pa.array(np.zeros(LABELS_OF_FILE, np.int32)),
            "label": pa.array(generator.normal(size=LABELS_OF_FILE)).cast(pa.string()),
            "time": moment.cast(pa.timestamp("us", tz="UTC")),
            "received": moment.cast(pa.timestamp("us", tz="UTC")),
        }
        pq.write_table(pa.table(told), folder / f"told/{number}.parquet", compression="zstd")


def ours(folder: Path) -> int:
    """Rows with a label in our table."""
    out = folder / "ours"
    out.mkdir()
    asked, told = ([*(folder / name).iterdir()] for name in ("asked", "told"))
    return compact(asked, told, out, without="proof").labelled


def pandas(folder: Path) -> int:
    """Rows with a label in the table that pandas makes: the last label received counts, rows lie by their time."""
    import pandas as pd

    asked, told = (
        pd.concat([pd.read_parquet(file) for file in (folder / name).iterdir()]) for name in ("asked", "told")
    )
    key = ["request_id", "row"]
    last = told.sort_values(["received", "time"]).drop_duplicates(key, keep="last")
    last = last.rename(columns={"time": "label_time"}).drop(columns="received")
    given = told.groupby(key).size().rename("labels_given").reset_index()
    table = asked.merge(last, on=key, how="left").merge(given, on=key, how="left")
    table.sort_values(["time", *key]).to_parquet(folder / "pandas.parquet", compression="zstd", index=False)
    return int(table["label"].notna().sum())


def figures() -> None:
    """In a process of its own: seconds, peak memory in MiB and labelled rows of one of the two."""
    import duckdb  # noqa: F401 - neither is charged for what it imports
    import pandas as pd  # noqa: F401

    who, folder = sys.argv[1], Path(sys.argv[2])
    taken, labelled = list[float](), list[int]()
    work = {"ours": ours, "pandas": pandas}[who]
    peak = watched_peak_mib(lambda: taken.append(seconds(lambda: labelled.append(work(folder)))))
    sys.stdout.write(json.dumps({"seconds": taken[0], "peak": peak, "labelled": labelled[0]}) + "\n")


def measure() -> list[Result]:
    """All figures of the compaction of a day."""
    with scratch() as folder:
        write_day(folder)
        mine, theirs = (in_process(figures, who, folder) for who in ("ours", "pandas"))
    assert mine["labelled"] == theirs["labelled"]
    title = f"a day's log, {FILES:,} files of {ROWS_OF_FILE:,} rows, with labels"
    rates = [FILES * ROWS_OF_FILE / found["seconds"] for found in (mine, theirs)]
    return [
        result(title, rates[0], "rows/s", "pandas", rates[1], goal=(">=", 1, "x")),
        result(
            f"{title}, peak memory",
            mine["peak"],
            "MiB",
            "pandas",
            theirs["peak"],
            goal=("<=", 1024, "MiB"),
            better="less",
        ),
    ]
