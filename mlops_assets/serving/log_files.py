"""The Parquet files of the inference log: what was asked and answered, and labels."""

from __future__ import annotations

import hashlib
import hmac
import io
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_assets.ml.inference.log_columns import DIGEST, INPUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from mlops_assets.serving.predictor import Predictor


class Answered(NamedTuple):
    """A request that was answered."""

    model: Predictor
    request_id: str
    role: str
    time: float
    latency_s: float
    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    size: int


class Label(NamedTuple):
    """What turned out to be true of a row of a request; `time` is when, and `received` when the server was told."""

    model: str
    request_id: str
    row: int
    label: str
    time: datetime
    received: datetime


def answered_file(entries: Sequence[Answered], salt: bytes) -> bytes:
    """The rows of requests to one version of a model."""
    import numpy as np
    import pyarrow as pa

    model = entries[0].model
    policy = model.served.log
    assert policy is not None
    counts = [len(next(iter(entry.inputs.values()))) for entry in entries]
    moments = pa.array([int(entry.time * 1e6) for entry in entries], pa.timestamp("us", tz="UTC"))
    index = np.repeat(np.arange(len(entries)), counts)
    columns: dict[str, Any] = {
        "request_id": pa.array([entry.request_id for entry in entries]).take(index),
        "row": pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in counts])),
        "time": moments.take(index),
        "version": pa.array([model.served.version] * len(index)),
        "role": pa.array([entry.role for entry in entries]).take(index),
        "latency_ms": pa.array(np.array([1e3 * entry.latency_s for entry in entries], np.float32)).take(index),
    }
    for column in model.signature.inputs:
        if column.name not in policy.leave_out:
            values = np.concatenate([entry.inputs[column.name].ravel() for entry in entries])
            missing = [value == "" or value != value for value in values.tolist()]  # noqa: PLR0124 - NaN
            if column.name in policy.hash:
                columns[f"{DIGEST}{column.name}"] = _digests(values, missing, salt)
            else:
                kind = pa.string() if values.dtype == object else None
                columns[f"{INPUT}{column.name}"] = pa.array(values, kind, mask=np.array(missing))
    for name in model.onnx.output_names:
        values = np.concatenate([entry.outputs[name] for entry in entries])
        if name == "label":
            columns[f"output:{name}"] = pa.array([str(value) for value in values.tolist()])
        elif name == "probabilities":
            columns[f"output:{name}"] = pa.array(list(values), pa.list_(pa.float32()))
        else:
            columns[f"output:{name}"] = pa.array(values.ravel())
    return parquet(pa.table(columns))


def _digests(values: NDArray[Any], missing: Sequence[bool], salt: bytes) -> Any:
    import pyarrow as pa

    texts = [None if gone else _digest(value, salt) for value, gone in zip(values.tolist(), missing, strict=True)]
    return pa.array(texts, pa.string())


def _digest(value: object, salt: bytes) -> str:
    return hmac.new(salt, str(value).encode(), hashlib.sha256).hexdigest()[:32]


def labels_file(labels: Sequence[Label]) -> bytes:
    """The rows of labels."""
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    return parquet(
        pa.table(
            {
                "request_id": [label.request_id for label in labels],
                "row": pa.array([label.row for label in labels], pa.int32()),
                "label": [label.label for label in labels],
                "time": pa.array([label.time for label in labels], moment),
                "received": pa.array([label.received for label in labels], moment),
            }
        )
    )


def parquet(table: Any) -> bytes:
    """A table as a file."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
