"""Decodes V1 and V2 requests against a model's signature; what does not fit is a BadRequest with column and reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mlops_assets.ml.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mlops_assets.ml.inference.artifact import InputColumn

    Arrays = dict[str, NDArray[Any]]

NUMBER_TYPES = frozenset(
    ("FP32", "FP64", "FP16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
)


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a request body."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Where a minus precedes, the position is behind it
        is_number = re.match(r"-?(NaN|Infinity)", error.doc[error.pos : error.pos + 9]) is not None
        remedy = "NaN and Infinity are no JSON; send null for a missing value" if is_number else ""
        raise BadRequest(f"the body is not JSON: {error}", remedy=remedy) from None
    if not isinstance(content, dict):
        raise BadRequest("the body must be a JSON object")
    return content


def decode_v2(content: dict[str, Any], columns: Sequence[InputColumn]) -> Arrays:
    """The tensors of a V2 request, one for each column, as arrays (n, 1)."""
    inputs = content.get("inputs")
    if not isinstance(inputs, list):
        raise BadRequest('"inputs" must be a list with one tensor for each column')
    tensors: dict[str, dict[str, Any]] = {}
    for tensor in inputs:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise BadRequest('each of "inputs" must be an object with name, shape, datatype and data')
        if tensor["name"] in tensors:
            raise BadRequest(f"column {tensor['name']} is given twice")
        tensors[tensor["name"]] = tensor
    _check_columns(tensors.keys(), columns)
    arrays: Arrays = {}
    rows = -1
    given = [column for column in columns if column.name in tensors]
    for column in given:
        values = _tensor_data(tensors[column.name], column)
        if rows not in (-1, len(values)):
            raise BadRequest(f"column {column.name} has {len(values)} rows, but {given[0].name} has {rows}")
        rows = len(values)
        arrays[column.name] = _to_array(values, column)
    if rows == -1:
        raise BadRequest("no column is given")
    for column in columns:
        if column.name not in arrays:
            arrays[column.name] = _to_array([None] * rows, column)
    return arrays


def _tensor_data(tensor: dict[str, Any], column: InputColumn) -> list[Any]:
    shape, data, datatype = tensor.get("shape"), tensor.get("data"), tensor.get("datatype")
    fitting = datatype == "BYTES" if column.dtype == "string" else datatype in NUMBER_TYPES
    if not fitting or not isinstance(datatype, str):
        wanted = "BYTES" if column.dtype == "string" else "FP32 (or another number type)"
        raise BadRequest(f"datatype is {datatype!r}, but must be {wanted}", where=f"column {column.name}")
    if not isinstance(shape, list) or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise BadRequest(f"shape is {shape!r}, but must be [rows, 1]", where=f"column {column.name}")
    if not isinstance(data, list):
        raise BadRequest("data must be a list", where=f"column {column.name}")
    if data and isinstance(data[0], list):
        if not all(isinstance(row, list) and len(row) == 1 for row in data):
            raise BadRequest("each row of data must hold one value", where=f"column {column.name}")
        data = [row[0] for row in data]
    if type(shape[0]) is not int or shape[0] != len(data):
        raise BadRequest(f"shape says {shape[0]!r} rows, but data has {len(data)}", where=f"column {column.name}")
    if not data:
        raise BadRequest(f"column {column.name} has no rows")
    return data


def decode_v1(content: dict[str, Any], columns: Sequence[InputColumn]) -> Arrays:
    """The rows of a V1 request, `{"instances": [{column: value, ...}, ...]}`, as an array (n, 1) for each column."""
    instances = content.get("instances")
    if not isinstance(instances, list) or not instances:
        raise BadRequest('"instances" must be a list of at least one object, {column: value, ...}')
    for row in instances:
        if not isinstance(row, dict):
            raise BadRequest('each of "instances" must be an object, {column: value, ...}')
        _check_columns(row.keys(), columns)
    return {column.name: _to_array([row.get(column.name) for row in instances], column) for column in columns}


def _check_columns(given: Any, columns: Sequence[InputColumn]) -> None:
    """Every column that cannot be missing is there, and no other."""
    for column in columns:
        if column.name not in given and not column.nullable:
            raise BadRequest(f"column {column.name} is missing", remedy=_wanted(columns))
    # The names are compared only where there are more than are known, for this is done for each row
    known = sum(column.name in given for column in columns)
    if len(given) > known:
        extra = sorted(set(given) - {column.name for column in columns})
        raise BadRequest(f"there is no column {', '.join(extra)}", remedy=_wanted(columns))


def _wanted(columns: Sequence[InputColumn]) -> str:
    return f"wanted: {', '.join(column.name for column in columns)}"


def _to_array(values: list[Any], column: InputColumn) -> NDArray[Any]:
    text = column.dtype == "string"
    for row, value in enumerate(values):
        kind = type(value)
        if value is None or (text and value == ""):
            if not column.nullable:
                raise BadRequest(f"row {row} is missing, but the column may not be", where=f"column {column.name}")
        elif not (kind is str if text else kind in (float, int, bool)):
            wanted = "a string" if text else "a number"
            raise BadRequest(f"row {row} is {_shortened(value)}, but must be {wanted}", where=f"column {column.name}")
    if text:
        array = np.empty((len(values), 1), dtype=object)
        array[:, 0] = [value or "" for value in values]
        return array
    with np.errstate(over="ignore"):
        try:
            array = np.array(values, dtype=np.float64).astype(np.float32).reshape(-1, 1)
        except OverflowError:
            raise BadRequest("a number is too large for a float32", where=f"column {column.name}") from None
    if np.isinf(array).any():
        raise BadRequest("a number is too large for a float32", where=f"column {column.name}")
    return array


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
