"""What must not grow with the data: the time of many files, the memory of wide categories, the time of a skip."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import PROJECT, Result, in_turn, result, scratch, seconds
from bench.preparation import POD_MIB, watched_peak_mib
from mlops_assets.ml.data.contract import NamedColumn, Prepare, Target
from mlops_assets.ml.data.preparation import PreparationPlan
from mlops_assets.ml.data.prepare import prepare
from mlops_assets.ml.features.feature_set import FeaturePlan, build_features

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS, FILES = 200_000, 1_000
TARGET = Target(column="y")
NUMBERS = tuple(NamedColumn(name=f"n{index}", type="number") for index in range(4))
FLAG = NamedColumn(name="y", type="boolean")
LEVELS, WIDE_ROWS = 50_000, 500_000
WIDE = tuple(NamedColumn(name=f"c{index}", type="category") for index in range(20))
SKIPPED_BYTES = 2 << 30


def generate(folder: Path, select: str, rows: int, files: int, kind: str) -> list[Path]:
    """Files of one format with these rows, split evenly."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE made AS SELECT i, {select} FROM range({rows}) t(i)")
    paths = [folder / f"{index:04}.{kind}" for index in range(files)]
    for index, path in enumerate(paths):
        part = f"SELECT * EXCLUDE (i) FROM made WHERE i % {files} = {index}"
        connection.execute(f"COPY ({part}) TO '{path}' (FORMAT {kind})")
    connection.close()
    return paths


def made(sources: Sequence[Path], folder: Path, columns: tuple[NamedColumn, ...]) -> None:
    """Prepared rows and features of these sources."""
    plan = PreparationPlan(
        columns=(*columns, FLAG), target=TARGET, task="binary_classification", prepare=Prepare(), event_time=None
    )
    for name in ("prepared", "features"):
        (folder / name).mkdir(exist_ok=True)
    report = prepare(sources, folder / "prepared", plan)
    used = FeaturePlan(
        use=columns,
        target=TARGET,
        task=plan.task,
        classes=report.classes,
        validation_rows=report.validation_rows,
    )
    build_features(folder / "prepared", folder / "features", used)


def many_files(kind: str) -> Result:
    """The time of 1,000 files beside one with the same rows."""
    select = ", ".join(f"hash(i, {index}) % 1000000 / 1000 AS n{index}" for index in range(4)) + ", i % 2 = 0 AS y"
    with scratch() as folder:
        (folder / "one").mkdir()
        (folder / "many").mkdir()
        one = generate(folder / "one", select, ROWS, 1, kind)
        many = generate(folder / "many", select, ROWS, FILES, kind)
        made(one, folder, NUMBERS)  # imports, and warms up
        single, several = in_turn(
            3,
            lambda: seconds(lambda: made(one, folder, NUMBERS)),
            lambda: seconds(lambda: made(many, folder, NUMBERS)),
        )
    name = f"preparation and features, {FILES:,} {kind} files, {ROWS:,} rows"
    row = result(name, several, "s", "one file with the same rows", single, goal=(">=", 1 / 3, "x"), better="less")
    return row.model_copy(update={"goal": "<= 3 x the time"})


def wide_categories() -> Result:
    """The peak memory of 20 columns with 50,000 levels each, in a process that finds the limit of a pod."""
    select = ", ".join(f"'level-' || (hash(i, {index}) % {LEVELS})::VARCHAR AS c{index}" for index in range(20))
    with scratch() as folder:
        generate(folder, f"{select}, i % 2 = 0 AS y", WIDE_ROWS, 1, "parquet")
        (folder / "memory.max").write_text(str(POD_MIB << 20))
        done = child("wide", folder)
    name = f"peak memory, 20 categories of {LEVELS:,} levels, {WIDE_ROWS:,} rows"
    return result(name, done["mib"], "MiB", "the pod's memory", POD_MIB, goal=("<=", POD_MIB, "MiB"), better="less")


def skip() -> Result:
    """The time in which a stage sees that its features are there, in a new process, beside one pass of SHA-256."""
    with scratch() as folder:
        child("publish", folder)
        passes, skips = in_turn(3, lambda: child("digest", folder)["s"], lambda: child("skip", folder)["s"])
    name = f"skip of {SKIPPED_BYTES >> 30} GiB of features (it grows with the bytes)"
    # Both read and digest the same bytes; the tenth is what two runs of the same pass differ by
    return result(name, skips, "s", "sha256 of the same bytes", passes, goal=(">=", 0.9, "x"), better="less")


def child(task: str, folder: Path) -> dict[str, Any]:
    """What a task found in a process of its own."""
    command = [sys.executable, "-c", "from bench.limits import main; main()", task, str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """In a process of its own: do a task and print what was found."""
    from mlops_assets.ml.data import machine
    from resources.lake.digests import sha256
    from resources.lake.folder_store import FolderStore
    from resources.lake.snapshots import Snapshots

    task, folder = sys.argv[1], Path(sys.argv[2])
    snapshots = Snapshots(FolderStore(folder / "lake"), "lake", folder / "cache")
    start = time.perf_counter()
    match task:
        case "wide":
            machine.CGROUP = folder
            found = {"mib": watched_peak_mib(lambda: made([folder / "0000.parquet"], folder, WIDE))}
        case "publish":
            with snapshots.publishing("m/features", "1") as draft:
                for name in ("x_train.npy", "x_test.npy"):
                    with (draft / name).open("wb") as file:
                        for _ in range(SKIPPED_BYTES // 2 >> 24):
                            file.write(b"\x01" * (1 << 24))
            found = {}
        case "digest":
            for path in folder.glob("lake/**/*.npy"):
                sha256(path)
            found = {"s": time.perf_counter() - start}
        case _:
            assert snapshots.find("m/features", "1")
            found = {"s": time.perf_counter() - start}
    sys.stdout.write(json.dumps(found) + "\n")


def measure() -> list[Result]:
    """All figures of limits."""
    return [many_files("parquet"), many_files("csv"), wide_categories(), skip()]
