"""Runs a model's ONNX graph on raw rows: the same few lines offline and in the predictor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.inference.artifact import GRAPH, tensor_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from mlops_assets.ml.inference.artifact import InputColumn

CUDA = "CUDAExecutionProvider"


class OnnxModel:
    """An ONNX graph, ready to answer on the CPU, or on a GPU as far as that knows its operators.

    Raises:
        ArtifactError: onnxruntime cannot use a GPU here.
    """

    def __init__(self, graph: bytes, threads: int = 1, *, gpu: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = [*([CUDA] if gpu else []), "CPUExecutionProvider"]
        self.session: Any = onnxruntime.InferenceSession(graph, options, providers=providers)
        # It goes on without a provider that is missing or fails, and only says so in its log
        if gpu and CUDA not in self.session.get_providers():
            what = "onnxruntime cannot use a GPU here"
            raise ArtifactError(
                what, remedy="take an image with onnxruntime-gpu and CUDA, or set deploy.resources.gpu to 0"
            )
        self.output_names: list[str] = [output.name for output in self.session.get_outputs()]

    def predict(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph's outputs by name, for one array (n, 1) for each column."""
        return self._run(inputs, None)

    def predict_within(self, seconds: float, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As `predict`, of a graph that may be made never to end.

        Raises:
            ArtifactError: it has not answered in time, or not at all.
        """
        import onnxruntime

        options, over = onnxruntime.RunOptions(), threading.Event()

        def end() -> None:
            over.set()
            options.terminate = True

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            return self._run(inputs, options)
        except Exception as error:  # onnxruntime has no class of its own for what it raises
            what = f"does not answer within {seconds:g} s" if over.is_set() else f"cannot be run ({str(error)[:200]})"
            raise ArtifactError(f"{GRAPH} {what}; refused") from error
        finally:
            timer.cancel()

    def _run(self, inputs: dict[str, NDArray[Any]], options: Any) -> dict[str, NDArray[Any]]:
        tensors = {tensor_name(column): values for column, values in inputs.items()}
        return dict(zip(self.output_names, self.session.run(self.output_names, tensors, options), strict=True))


def to_model_inputs(rows: pd.DataFrame, inputs: Sequence[InputColumn]) -> dict[str, NDArray[Any]]:
    """Raw rows as the graph takes them: one array (n, 1) for each column, float32 or str; NaN and "" are missing."""
    arrays: dict[str, NDArray[Any]] = {}
    for column in inputs:
        values = rows[column.name]
        if column.dtype == "string":
            arrays[column.name] = values.fillna("").to_numpy(dtype=object).reshape(-1, 1)
        else:
            arrays[column.name] = values.to_numpy(dtype=np.float32).reshape(-1, 1)
    return arrays


def read_rows(path: Path, inputs: Sequence[InputColumn], rows: int) -> pd.DataFrame:
    """The first rows of a Parquet file, with the graph's columns."""
    import pyarrow.parquet as pq

    return to_frame(next(pq.ParquetFile(path).iter_batches(rows, columns=[column.name for column in inputs])))


def to_frame(batch: Any) -> pd.DataFrame:
    """Rows of a pyarrow table or batch; booleans are float32, with NaN for a missing one as in other numbers."""
    import pyarrow as pa

    columns = [column.cast(pa.float32()) if pa.types.is_boolean(column.type) else column for column in batch.columns]
    return pa.Table.from_arrays(columns, names=batch.schema.names).to_pandas()


def largest_difference(left: dict[str, list[Any]], right: dict[str, list[Any]]) -> float:
    """How far two sets of answers are apart: infinity where a label, a name or a shape differs, or one has no number.

    >>> largest_difference({"label": ["a"], "probabilities": [[0.5]]}, {"label": ["a"], "probabilities": [[0.25]]})
    0.25
    >>> largest_difference({"label": ["a"]}, {"label": ["b"]})
    inf
    """
    if left.keys() != right.keys():
        return float("inf")
    largest = 0.0
    for name, values in left.items():
        mine, other = np.asarray(values), np.asarray(right[name])
        if mine.shape != other.shape:
            return float("inf")
        if name == "label":
            largest = max(largest, 0.0 if np.array_equal(mine, other) else float("inf"))
        elif mine.size:
            largest = max(largest, _apart(mine.astype(np.float64), other.astype(np.float64)))
    return largest


def _apart(mine: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest difference; no number is as far from one as can be, and equal to none."""
    equal = (mine == other) | (np.isnan(mine) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        differences = np.where(equal, 0.0, np.abs(mine - other))
    return float(np.max(np.where(np.isnan(differences), np.inf, differences)))
