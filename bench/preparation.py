"""Preparation and features against pandas with CSV files and pickles between the steps, and their peak memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.measure import PROJECT, Result, in_turn, result, scratch, seconds
from mlops_assets.ml.data import machine
from mlops_assets.ml.data.contract import NamedColumn, Prepare, Target
from mlops_assets.ml.data.preparation import PreparationPlan
from mlops_assets.ml.data.prepare import prepare
from mlops_assets.ml.data.simulate import write_transactions
from mlops_assets.ml.features.feature_set import FeaturePlan, build_features, load_arrays

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 200_000
POD_MIB = 2048  # compute.memory where the YAML says nothing
NUMBERS = ("amount", "user_age", "transaction_hour")
COLUMNS = (
    *(NamedColumn(name=name, type="number") for name in NUMBERS),
    NamedColumn(name="merchant_id", type="category"),
    NamedColumn(name="is_fraud", type="boolean"),
)
TARGET = Target(column="is_fraud")


def ours(source: Path, folder: Path) -> None:
    """From the source file to arrays that can be trained on."""
    prepared, features = folder / "prepared", folder / "features"
    for place in (prepared, features):
        place.mkdir(exist_ok=True)
    # Rows of the simulation are often equal; dropping duplicates would change what is compared
    plan = PreparationPlan(
        columns=COLUMNS,
        target=TARGET,
        task="binary_classification",
        prepare=Prepare(drop_duplicates=False),
        event_time=None,
    )
    report = prepare([source], prepared, plan)
    used = FeaturePlan(
        use=COLUMNS[:-1],
        target=TARGET,
        task="binary_classification",
        classes=report.classes,
        validation_rows=report.validation_rows,
    )
    build_features(prepared, features, used)
    load_arrays(features, "train")
    load_arrays(features, "test")


def with_pandas(source: Path, folder: Path) -> None:
    """The same by pandas and scikit-learn, each step leaving a CSV file or a pickle for the next one."""
    import pickle

    from sklearn.compose import ColumnTransformer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = pd.read_csv(source)
    rows = rows[[column.name for column in COLUMNS]].dropna()
    train, test = train_test_split(rows, test_size=0.2, random_state=42)
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)

    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transformer = ColumnTransformer(
        [("number", StandardScaler(), list(NUMBERS)), ("category", encoder, ["merchant_id"])]
    )
    for name, part in (("train", train), ("test", test)):
        values = transformer.fit_transform(part) if name == "train" else transformer.transform(part)
        features = pd.DataFrame(values, columns=transformer.get_feature_names_out())
        features.assign(is_fraud=part["is_fraud"].to_numpy()).to_csv(folder / f"features_{name}.csv", index=False)
    (folder / "transformer.pkl").write_bytes(pickle.dumps(transformer))

    pickle.loads((folder / "transformer.pkl").read_bytes())
    for name in ("train", "test"):
        pd.read_csv(folder / f"features_{name}.csv").to_numpy(dtype="float32")


def peak_mib(rows: int) -> float:
    """Peak resident memory of a process in a pod of 2 GiB that prepares this many rows and builds their features."""
    with scratch() as folder:
        write_transactions(folder / "source.parquet", rows=rows, seed=1)
        program = "from bench.preparation import report_peak; report_peak()"
        command = [sys.executable, "-c", program, str(folder)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])


def report_peak() -> None:
    """In a process of its own, which finds the limit of a pod: do the work and print the peak memory, in MiB."""
    folder = Path(sys.argv[1])
    (folder / "memory.max").write_text(str(POD_MIB << 20))
    machine.CGROUP = folder
    sys.stdout.write(f"{watched_peak_mib(lambda: ours(folder / 'source.parquet', folder)):.1f}\n")


def watched_peak_mib(work: Callable[[], object]) -> float:
    """The peak memory of this process, in MiB, while it works, without mapped files."""
    import threading

    import psutil

    process = psutil.Process()
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            memory: Any = process.memory_info()
            # Pages of memory-mapped files belong to the page cache: the system takes them back when it needs them
            peak[0] = max(peak[0], memory.rss - memory.shared)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak[0] / 2**20


def measure() -> list[Result]:
    """All figures of preparation and features."""
    with scratch() as folder:
        write_transactions(folder / "rows.parquet", rows=ROWS, seed=1)
        pd.read_parquet(folder / "rows.parquet").to_csv(folder / "rows.csv", index=False)
        ours(folder / "rows.parquet", folder)  # imports, and warms up
        theirs, mine = in_turn(
            3,
            lambda: seconds(lambda: with_pandas(folder / "rows.csv", folder)),
            lambda: seconds(lambda: ours(folder / "rows.parquet", folder)),
        )
    anchor = "pandas, CSV and pickle between steps"
    small, large = peak_mib(1_000_000), peak_mib(10_000_000)
    return [
        result("prepare and features, 200,000 rows", mine, "s", anchor, theirs, goal=(">=", 10, "x"), better="less"),
        result("peak memory, 10M rows, in a pod of 2 GiB", large, "MiB", "1M rows", small, goal=("<=", 1024, "MiB")),
    ]
