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

    import numpy as np
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


def answered_rows(entries: Sequence[Answered], salt: bytes) -> Any:
    """The rows of requests to one version of a model, a pyarrow table."""
    import numpy as np
    import pyarrow as pa

    model = entries[0].model
    policy = model.served.log
    assert policy is not None
    counts = np.array([len(next(iter(entry.inputs.values()))) for entry in entries])
    index = np.repeat(np.arange(len(entries)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)  # row of each one's request
    micros = (np.array([entry.time for entry in entries]) * 1e6).astype(np.int64)
    columns: dict[str, Any] = {
        "request_id": pa.array([entry.request_id for entry in entries]).take(index),
        "row": pa.array((np.arange(len(index)) - first).astype(np.int32)),
        "time": pa.array(micros).cast(pa.timestamp("us", tz="UTC")).take(index),
        "version": pa.array([model.served.version] * len(index)),
        "role": pa.array([entry.role for entry in entries]).take(index),
        "latency_ms": pa.array((1e3 * np.array([entry.latency_s for entry in entries])).astype(np.float32)).take(index),
    }
    for column in model.signature.inputs:
        if column.name not in policy.leave_out:
            values = np.concatenate([entry.inputs[column.name] for entry in entries]).ravel()
            is_text = values.dtype == object
            missing = values == "" if is_text else np.isnan(values)
            if column.name in policy.hash:
                columns[f"{DIGEST}{column.name}"] = _digests(values, missing, salt)
            else:
                columns[f"{INPUT}{column.name}"] = pa.array(values, pa.string() if is_text else None, mask=missing)
    for name in model.onnx.output_names:
        values = np.concatenate([entry.outputs[name] for entry in entries])
        if name == "label":
            columns[f"output:{name}"] = pa.array(values).cast(pa.string())
        elif name == "probabilities":
            offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
            columns[f"output:{name}"] = pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
        else:
            columns[f"output:{name}"] = pa.array(values.ravel())
    return pa.table(columns)


def _digests(values: NDArray[Any], missing: NDArray[np.bool_], salt: bytes) -> Any:
    import pyarrow as pa

    pairs = zip(values.tolist(), missing.tolist(), strict=True)
    texts = [None if gone else _digest(value, salt) for value, gone in pairs]
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


def parquet(*tables: Any) -> bytes:
    """Tables as a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), file, compression="zstd")
    return file.getvalue()
