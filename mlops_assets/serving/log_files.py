"""The Parquet files of the inference log: what was asked and answered, and labels."""

from __future__ import annotations

import hashlib
import hmac
import io
from itertools import accumulate, chain, groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from mlops_assets.ml.inference.log_columns import DIGEST, INPUT
from mlops_assets.serving.inference_protocol import NUMPY_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from mlops_assets.serving.predictor import Predictor

PIECE_ROWS = 20_000  # of which columns are made at a time: while pyarrow makes one, no request is answered
Packed: TypeAlias = "bytes | list[str]"  # what an array has: a number's bytes each, or texts


class Answered(NamedTuple):
    """A request that was answered: `packed` are the columns of its rows that are logged, and all outputs."""

    model: Predictor
    request_id: str
    role: str
    time: float
    latency_s: float
    rows: int
    inputs: list[Packed]
    outputs: list[Packed]
    size: int


class Label(NamedTuple):
    """What turned out to be true of a row of a request; `time` is when, and `received` when the server was told."""

    model: str
    request_id: str
    row: int
    label: str
    time: datetime
    received: datetime


def packed(values: NDArray[Any]) -> Packed:
    """The values of an array as they wait to be logged. To put a thousand arrays together takes longer by far, and no
    request is answered meanwhile.
    """
    return values.ravel().tolist() if values.dtype.hasobject else values.tobytes()


def _unpacked(values: Sequence[Any], datatype: str) -> NDArray[Any]:
    """What was packed, of all requests."""
    if datatype == "BYTES":
        return np.array([*chain.from_iterable(values)], dtype=object)
    return np.frombuffer(b"".join(values), NUMPY_TYPES[datatype])


def answered_rows(entries: Sequence[Answered], salt: bytes) -> Any:
    """The rows of requests to one version of a model, a pyarrow table."""
    import pyarrow as pa

    counted = zip(entries, accumulate(entry.rows for entry in entries), strict=True)
    pieces = groupby(counted, key=lambda each: each[1] // PIECE_ROWS)
    return pa.concat_tables([_rows_of([entry for entry, _ in piece], salt) for _, piece in pieces])


def _rows_of(entries: Sequence[Answered], salt: bytes) -> Any:
    import pyarrow as pa

    model = entries[0].model
    policy = model.served.log
    assert policy is not None
    counts = np.array([entry.rows for entry in entries])
    index = np.repeat(np.arange(len(entries)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)  # row of each one's request
    micros = (np.array([entry.time for entry in entries]) * 1e6).astype(np.int64)
    columns: dict[str, Any] = {
        "request_id": pa.array([entry.request_id for entry in entries]).take(index),
        "row": pa.array((np.arange(len(index)) - first).astype(np.int32)),
        "time": pa.array(micros).cast(pa.timestamp("us", tz="UTC")).take(index),
        "version": pa.repeat(model.served.version, len(index)),
        "role": pa.array([entry.role for entry in entries]).take(index),
        "latency_ms": pa.array((1e3 * np.array([entry.latency_s for entry in entries])).astype(np.float32)).take(index),
    }
    for column, each in zip(model.logged_columns, zip(*(entry.inputs for entry in entries), strict=True), strict=True):
        values = _unpacked(each, column.datatype)
        is_text = values.dtype == object
        missing = values == "" if is_text else np.isnan(values)
        if column.name in policy.hash:
            columns[f"{DIGEST}{column.name}"] = _digests(values, missing, salt)
        else:
            columns[f"{INPUT}{column.name}"] = pa.array(values, pa.string() if is_text else None, mask=missing)
    for output, each in zip(model.outputs, zip(*(entry.outputs for entry in entries), strict=True), strict=True):
        values = pa.array(_unpacked(each, output.datatype))
        if output.name == "label":
            values = values.cast(pa.string())
        elif output.name == "probabilities":
            offsets = np.arange(len(index) + 1, dtype=np.int32) * (len(values) // len(index))
            values = pa.ListArray.from_arrays(offsets, values)
        columns[f"output:{output.name}"] = values
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


def parquet(table: Any) -> bytes:
    """A table as a file."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
