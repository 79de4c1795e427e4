"""Turns prepared rows into arrays to learn from, in bounded memory, and keeps what serving needs to do the same."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.data.contract import NamedColumn, Target
from mlops_assets.ml.features.preprocessing import MAX_CATEGORIES, fit_preprocessing, preprocessing_to_onnx
from mlops_assets.ml.inference.artifact import InputColumn
from mlops_assets.ml.inference.onnx_model import OnnxModel, to_model_inputs
from mlops_assets.ml.values import Classes, Document, Task, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

FIT_ROWS = 262_144
REFERENCE_ROWS = 10_000
BATCH_ROWS = 65_536


class FeaturePlan(Value):
    """Everything that decides the features."""

    use: tuple[NamedColumn, ...]
    target: Target
    task: Task
    classes: Classes | None


class FeatureSet(Document):
    """What the arrays hold."""

    FILE = "features.json"

    task: Task
    inputs: tuple[NamedColumn, ...]
    feature_names: tuple[str, ...]
    train_rows: int
    test_rows: int
    classes: Classes | None
    target_mean: float
    target_std: float
    non_finite: dict[str, int]


def build_features(prepared: Path, out: Path, plan: FeaturePlan) -> FeatureSet:
    """Write x_train.npy, y_train.npy, x_test.npy, y_test.npy, preprocessing.onnx, reference.parquet and features.json.

    x: float32 (n, d); y: float32 (n,) for regression, int64 (n,) class indices otherwise. Statistics are fitted on the
    first 262,144 train rows, which are a random sample because prepared rows are ordered by their digest; categories
    are those of all train rows, the 256 most frequent of a column. The arrays are computed by the graph that is served,
    so that a model learns from exactly the values it will see.
    """
    import pyarrow.parquet as pq

    train = pq.ParquetFile(prepared / "train.parquet")
    names = [column.name for column in plan.use]
    categories = {c.name: _categories(train, c.name) for c in plan.use if c.type == "category"}
    transformer = fit_preprocessing(_first_rows(train, names, FIT_ROWS), plan.use, categories)
    graph = preprocessing_to_onnx(transformer, plan.use).SerializeToString()
    (out / "preprocessing.onnx").write_bytes(graph)
    model, inputs = OnnxModel(graph, threads=2), inputs_of(plan.use)
    feature_names = tuple(str(name) for name in transformer.get_feature_names_out())
    rows, bad = dict[str, int](), np.zeros(len(feature_names), dtype=np.int64)
    moments = np.zeros(2)
    for part in ("train", "test"):
        file = pq.ParquetFile(prepared / f"{part}.parquet")
        rows[part] = file.metadata.num_rows
        target = plan.target.column
        x = _new_array(out / f"x_{part}.npy", np.float32, (rows[part], len(feature_names)))
        y = _new_array(out / f"y_{part}.npy", _target_type(plan.task), (rows[part],))
        position = 0
        for frame in _frames(file, [*names, target]):
            end = position + len(frame)
            values = model.predict(to_model_inputs(frame, inputs))["features"]
            bad += (~np.isfinite(values)).sum(axis=0)
            x[position:end], y[position:end] = values, frame[target].to_numpy()
            position = end
        if part == "train" and plan.task == "regression":
            moments = np.array([np.mean(y, dtype=np.float64), np.std(y, dtype=np.float64)])
    _reference(train, [*names, plan.target.column], out)
    made = FeatureSet(
        task=plan.task,
        inputs=plan.use,
        feature_names=feature_names,
        train_rows=rows["train"],
        test_rows=rows["test"],
        classes=plan.classes,
        target_mean=float(moments[0]),
        target_std=float(moments[1]) or 1.0,
        non_finite={name: int(count) for name, count in zip(feature_names, bad, strict=True) if count},
    )
    made.write(out)
    return made


def inputs_of(use: Sequence[NamedColumn]) -> tuple[InputColumn, ...]:
    """The graph's inputs for these columns."""
    return tuple(
        InputColumn(name=c.name, dtype="string" if c.type == "category" else "float32", nullable=c.nullable)
        for c in use
    )


def _new_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """A memory-mapped array whose place on the disk is reserved: without that, a full disk kills the process."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _target_type(task: Task) -> type[np.generic]:
    return np.float32 if task == "regression" else np.int64


def _frames(file: Any, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Batches of rows; a missing category is the empty string, as it is for a predictor."""
    import pyarrow as pa

    for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
        frame = batch.to_pandas()
        for field in batch.schema:
            if pa.types.is_string(field.type):
                frame[field.name] = frame[field.name].fillna("")
        yield frame


def _first_rows(file: Any, columns: Sequence[str], rows: int) -> pd.DataFrame:
    import pandas as pd

    taken, frames = 0, list[pd.DataFrame]()
    for frame in _frames(file, columns):
        frames.append(frame.iloc[: rows - taken])
        taken += len(frames[-1])
        if taken >= rows:
            break
    return pd.concat(frames, ignore_index=True)


def _categories(file: Any, column: str) -> list[str]:
    """The values of a column in all rows, sorted; only the most frequent where there are too many."""
    import pyarrow.compute

    compute: Any = pyarrow.compute  # its functions are made at run time

    counts = dict[str, int]()
    for batch in file.iter_batches(BATCH_ROWS, columns=[column]):
        for entry in compute.value_counts(batch.column(0)).to_pylist():
            if entry["values"]:
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    frequent = sorted(counts, key=lambda value: (-counts[value], value))[:MAX_CATEGORIES]
    return sorted(frequent) or [""]


def _reference(file: Any, columns: Sequence[str], out: Path) -> None:
    """A sample of raw train rows, to compare live data with."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.Table.from_pandas(_first_rows(file, columns, REFERENCE_ROWS), preserve_index=False)
    pq.write_table(rows, out / "reference.parquet")


def load_arrays(features: Path, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """x and y of `train` or `test`, memory-mapped."""
    x = np.load(features / f"x_{part}.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(features / f"y_{part}.npy", mmap_mode="r", allow_pickle=False)
    return x, y
