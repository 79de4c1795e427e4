"""Turns prepared rows into arrays to learn from, in bounded memory, and keeps what serving needs to do the same."""

from __future__ import annotations

import glob
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.data.classes import check_spelling
from mlops_assets.ml.data.contract import NamedColumn, Target
from mlops_assets.ml.data.machine import cores, memory_limit_mib
from mlops_assets.ml.data.sources import identifier, quoted, session
from mlops_assets.ml.features.preprocessing import (
    FEATURES,
    MAX_CATEGORIES,
    feature_names,
    fit_preprocessing,
    preprocessing_to_onnx,
)
from mlops_assets.ml.inference.artifact import InputColumn
from mlops_assets.ml.inference.onnx_model import OnnxModel, to_frame, to_model_inputs
from mlops_assets.ml.values import Classes, Document, Task, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    # What the graph takes for some rows, and their targets
    Batch = tuple[dict[str, NDArray[Any]], NDArray[Any]]

FIT_ROWS = 262_144
REFERENCE_ROWS = 10_000
BATCH_ROWS, BATCH_BYTES = 65_536, 32 << 20


class FeaturePlan(Value):
    """Everything that decides the features."""

    use: tuple[NamedColumn, ...]
    target: Target
    task: Task
    classes: Classes | None
    validation_rows: int


class FeatureSet(Document):
    """What the arrays hold. The last `validation_rows` of the train part are for early stopping; `rare` is the share of
    the train rows whose category is none of those that have a feature, by column, where there are such rows.
    """

    FILE = "features.json"

    task: Task
    inputs: tuple[NamedColumn, ...]
    feature_names: tuple[str, ...]
    train_rows: int
    validation_rows: int
    test_rows: int
    classes: Classes | None
    target_mean: float
    target_std: float
    non_finite: dict[str, int]
    rare: dict[str, float]


def build_features(prepared: Path, out: Path, plan: FeaturePlan) -> FeatureSet:
    """Write x_train.npy, y_train.npy, x_test.npy, y_test.npy, preprocessing.onnx, reference.parquet and features.json.

    x: float32 (n, d); y: float64 (n,) for regression, int64 (n,) class indices otherwise. Statistics are fitted on the
    first 262,144 train rows, which are a random sample because prepared rows are ordered by their digest; categories
    are those of all train rows, the 256 most frequent of a column. The arrays are computed by the graph that is served,
    so that a model learns from exactly the values it will see.
    """
    import pyarrow.parquet as pq

    train = pq.ParquetFile(prepared / "train.parquet")
    names = [column.name for column in plan.use]
    numbers = [column.name for column in plan.use if column.type != "category"]
    with ThreadPoolExecutor(1) as thread:  # numbers are read while categories are counted
        counted = thread.submit(_categories, prepared, [c.name for c in plan.use if c.type == "category"], out)
        sample = _first_rows(train, numbers, FIT_ROWS)
        categories, rare = counted.result()
    transformer = fit_preprocessing(sample, plan.use, categories)
    graph = preprocessing_to_onnx(transformer, plan.use).SerializeToString()
    (out / "preprocessing.onnx").write_bytes(graph)
    model, inputs = OnnxModel(graph, threads=2), inputs_of(plan.use)
    made_of = feature_names(plan.use, categories)
    rows, bad = dict[str, int](), np.zeros(len(numbers), dtype=np.int64)
    batch = max(1_024, min(BATCH_ROWS, BATCH_BYTES // (4 * len(made_of))))
    moments = np.zeros(2)
    for part in ("train", "test"):
        file = pq.ParquetFile(prepared / f"{part}.parquet")
        rows[part] = file.metadata.num_rows
        target = plan.target.column
        x_file, y_file = out / f"x_{part}.npy", out / f"y_{part}.npy"
        with (
            _npy_file(x_file, np.float32, (rows[part], len(made_of))) as append_x,
            _npy_file(y_file, _target_type(plan.task), (rows[part],)) as append_y,
        ):
            batches = (
                (to_model_inputs(f, inputs), f[target].to_numpy()) for f in _frames(file, [*names, target], batch)
            )
            for given, y in _ahead(batches):
                values = model.predict(given)[FEATURES]
                # What stands for a category is 0 or 1
                bad += (~np.isfinite(values[:, : len(numbers)])).sum(axis=0)
                append_x(values)
                append_y(y)
        if part == "train" and plan.task == "regression":
            y = np.load(y_file, mmap_mode="r", allow_pickle=False)
            moments = np.array([np.mean(y, dtype=np.float64), np.std(y, dtype=np.float64)])
    reference = _first_rows(train, [*names, plan.target.column], REFERENCE_ROWS)  # to compare live data with
    reference.to_parquet(out / "reference.parquet", index=False)
    made = FeatureSet(
        task=plan.task,
        inputs=plan.use,
        feature_names=made_of,
        train_rows=rows["train"],
        validation_rows=plan.validation_rows,
        test_rows=rows["test"],
        classes=plan.classes,
        target_mean=float(moments[0]),
        target_std=float(moments[1]) or 1.0,
        non_finite={name: int(count) for name, count in zip(numbers, bad, strict=True) if count},
        rare=rare,
    )
    made.write(out)
    return made


def inputs_of(use: Sequence[NamedColumn]) -> tuple[InputColumn, ...]:
    """The graph's inputs for these columns."""
    return tuple(
        InputColumn(name=c.name, dtype="string" if c.type == "category" else "float32", nullable=c.nullable)
        for c in use
    )


@contextmanager
def _npy_file(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> Generator[Callable[[NDArray[Any]], None]]:
    """Write an array of this shape, as `np.save` does, by appending its rows.

    Half as long as by a memory-mapped file, and a full disk is an error and does not kill the process.
    """
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

        def append(rows: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(rows, dtype=dtype).data)

        yield append


def _target_type(task: Task) -> type[np.generic]:
    return np.float64 if task == "regression" else np.int64


def _frames(file: Any, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[pd.DataFrame]:
    """Batches of rows, as many as fit into the memory; a missing category is the empty string, as for a predictor."""
    import pyarrow as pa

    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    width = sum(group.total_byte_size for group in groups) // max(file.metadata.num_rows, 1)
    rows = max(1_024, min(rows, BATCH_BYTES // max(width, 1)))
    for batch in file.iter_batches(rows, columns=list(columns)):
        filled = [column.fill_null("") if pa.types.is_string(column.type) else column for column in batch.columns]
        yield to_frame(pa.RecordBatch.from_arrays(filled, names=batch.schema.names))


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one being read while one is worked on."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def _first_rows(file: Any, columns: Sequence[str], rows: int) -> pd.DataFrame:
    import pandas as pd

    taken, frames = 0, list[pd.DataFrame]()
    for frame in _frames(file, columns, min(rows, BATCH_ROWS)):
        frames.append(frame.iloc[: rows - taken])
        taken += len(frames[-1])
        if taken >= rows:
            break
    return pd.concat(frames, ignore_index=True)


def _categories(prepared: Path, columns: Sequence[str], out: Path) -> tuple[dict[str, list[str]], dict[str, float]]:
    """The most frequent values of each column in all train rows, sorted, and the share of rows with other ones."""
    if not columns:
        return {}, {}
    categories, rare = dict[str, list[str]](), dict[str, float]()
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        connection = session([prepared], Path(scratch), memory_limit_mib(), cores())
        rows = f"read_parquet({quoted(glob.escape(str(prepared / 'train.parquet')))})"
        for name in columns:
            found = connection.execute(
                f"SELECT {identifier(name)}, count(*) AS rows, sum(count(*)) OVER () FROM {rows} "
                f"WHERE {identifier(name)} IS NOT NULL GROUP BY 1 ORDER BY rows DESC, 1 LIMIT {MAX_CATEGORIES}"
            ).fetchall()
            check_spelling(name, [value for value, _, _ in found])
            categories[name] = sorted(value for value, _, _ in found) or [""]
            kept, total = sum(count for _, count, _ in found), found[0][2] if found else 0
            if kept < total:
                rare[name] = float(1 - kept / total)
    return categories, rare


def load_arrays(features: Path, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """x and y of `train` or `test`, memory-mapped."""
    x = np.load(features / f"x_{part}.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(features / f"y_{part}.npy", mmap_mode="r", allow_pickle=False)
    return x, y
