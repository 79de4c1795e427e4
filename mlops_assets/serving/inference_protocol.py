"""Reads requests of V1, V2 (JSON and binary tensors) and gRPC by a model's signature.

What does not fit is a BadRequest with column and reason. A reader is made once for a model, so that a request of one
row is read in a few microseconds.
"""

from __future__ import annotations

import os
import re
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from mlops_assets.ml.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from mlops_assets.ml.inference.artifact import InputColumn

    Arrays = dict[str, NDArray[Any]]

NUMPY_TYPES: dict[str, str] = {  # little-endian, as binary tensors are
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
LARGEST = float(np.finfo(np.float32).max)
MISSING = (None,)
ONE_ROW = ([1, 1], [1])
FLOATS, TEXTS = ("FP32", "FP64", "FP16"), ("BYTES",)
NUMBER, TEXT, NONE = frozenset((float, int, bool)), frozenset((str,)), frozenset((type(None),))
REQUEST_ID = re.compile(r"[!-~]{1,128}")  # it stands in a header, in logs and in paths


def parse_json(body: bytes | memoryview) -> dict[str, Any]:
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


def parse_v2(body: bytes, json_bytes: int | None) -> tuple[dict[str, Any], memoryview | None]:
    """The JSON of a V2 request or response and the binary tensors that follow it, None where all of it is JSON."""
    if json_bytes is None:
        return parse_json(body), None
    return parse_json(body[:json_bytes]), memoryview(body)[json_bytes:]


def request_id_of(given: Any) -> str | None:
    """The id that a caller has given a request; None where there is none."""
    if given is None or given == "":
        return None
    if not isinstance(given, str) or not REQUEST_ID.fullmatch(given):
        raise BadRequest(
            f"the id is {_shortened(given)}, but must be at most 128 printable ASCII characters without spaces"
        )
    return given


def new_request_id() -> str:
    """An id for a request that has none: 128 random bits, without what a UUID's form costs on top."""
    return os.urandom(16).hex()


class Tensor(NamedTuple):
    """A tensor of a V2 request: its values as a list, or as the bytes of a binary tensor."""

    name: str
    datatype: Any
    shape: Any
    data: Any


def listed(tensor: Tensor, where: str) -> Any:
    """The values of a tensor as a list, whichever it has; as it is where that is none.

    Raises:
        BadRequest: its bytes are not those of its datatype.
    """
    is_binary = isinstance(tensor.data, memoryview)
    return values_of(tensor.data, tensor.datatype, where) if is_binary else tensor.data


def tensors_of(content: Mapping[str, Any], field: str, binary: memoryview | None = None) -> list[Tensor]:
    """The tensors of a V2 request ("inputs") or response ("outputs"); `binary` is what follows its JSON."""
    given = content.get(field)
    if not isinstance(given, list):
        raise BadRequest(f'"{field}" must be a list with one tensor for each column')
    tensors, begin = list[Tensor](), 0
    for each in given:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise BadRequest(f'each of "{field}" must be an object with name, shape, datatype and data')
        parameters = each.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        data = each.get("data")
        if size is not None:
            if type(size) is not int or size < 0 or binary is None or begin + size > len(binary) or "data" in each:
                what = "binary_data_size must be the number of its bytes behind the JSON, in place of data"
                raise BadRequest(what, where=f"column {each['name'][:63]}")
            data = binary[begin : begin + size]
            begin += size
        tensors.append(Tensor(each["name"], each.get("datatype"), each.get("shape"), data))
    if binary is not None and begin != len(binary):
        raise BadRequest(f"{len(binary)} bytes follow the JSON, but its tensors have {begin}")
    return tensors


def with_tensors(content: Mapping[str, Any], field: str, tensors: Iterable[Tensor]) -> tuple[bytes, int]:
    """A V2 request or response with these tensors, and how many of its bytes are JSON; `tensors_of` reads it."""
    described, binary = list[dict[str, Any]](), list[bytes | memoryview]()
    for name, datatype, shape, data in tensors:
        tensor = {"name": name, "shape": shape, "datatype": datatype}
        if isinstance(data, (bytes, memoryview)):
            binary.append(data)
            described.append(tensor | {"parameters": {"binary_data_size": len(data)}})
        else:
            described.append(tensor | {"data": data})
    head = orjson.dumps({**content, field: described})
    return b"".join([head, *binary]), len(head)


class RequestReader:
    """Reads what fits these columns into one array (n, 1) for each: float32, or str as objects.

    A missing number is NaN and a missing text the empty one. At most `max_rows` rows are read.
    """

    def __init__(self, columns: Sequence[InputColumn], max_rows: int) -> None:
        self.columns, self.max_rows = columns, max_rows
        self.names = {column.name for column in columns}
        self.numbers = [column for column in columns if column.dtype != "string"]
        self.texts = [column for column in columns if column.dtype == "string"]
        self._number_names = [column.name for column in self.numbers]
        self._text_names = [column.name for column in self.texts]
        self._required_texts = {column.name for column in self.texts if not column.nullable}
        # Those whose values need not be looked at
        self._datatypes = {column.name: TEXTS if column.dtype == "string" else FLOATS for column in columns}
        self.types = {
            column.name: (TEXT if column.dtype == "string" else NUMBER) | (NONE if column.nullable else frozenset())
            for column in columns
        }

    def v1(self, content: Mapping[str, Any]) -> Arrays:
        """The rows of a V1 request, `{"instances": [{column: value, ...}, ...]}`."""
        instances = content.get("instances")
        if not isinstance(instances, list) or not instances:
            raise BadRequest('"instances" must be a list of at least one object, {column: value, ...}')
        self._check_rows(len(instances))
        if len(instances) == 1 and (arrays := self._one_row(instances[0])):
            return arrays
        for row in instances:
            if not isinstance(row, dict):
                raise BadRequest('each of "instances" must be an object, {column: value, ...}')
            if row.keys() != self.names:
                self._check_columns(row.keys())
        return self._arrays({name: [row.get(name) for row in instances] for name in self.names}, len(instances))

    def v2(self, content: Mapping[str, Any], binary: memoryview | None = None) -> Arrays:
        """The tensors of a V2 request; `binary` is what follows its JSON, where a header says so."""
        return self.tensors(tensors_of(content, "inputs", binary))

    def tensors(self, given: Iterable[Tensor]) -> Arrays:
        """The tensors of a request, each of shape [rows] or [rows, 1]."""
        given = [*given]
        if arrays := self._one_row_of(given):
            return arrays
        by_name = dict[str, Tensor]()
        for tensor in given:
            if tensor.name in by_name:
                raise BadRequest(f"column {tensor.name[:63]} is given twice")
            by_name[tensor.name] = tensor
        if by_name.keys() != self.names:
            self._check_columns(by_name.keys())
        values = dict[str, list[Any]]()
        first, rows = "", -1
        for column in self.columns:
            if column.name not in by_name:
                continue
            values[column.name] = found = self._values(by_name[column.name], column)
            if rows not in (-1, len(found)):
                raise BadRequest(f"column {column.name} has {len(found)} rows, but {first} has {rows}")
            first, rows = first or column.name, len(found)
        if rows == -1:
            raise BadRequest("no column is given")
        if rows == 1 and (arrays := self._one_row({name: values.get(name, MISSING)[0] for name in self.names})):
            return arrays
        return self._arrays({name: values.get(name) or [None] * rows for name in self.names}, rows)

    def _values(self, tensor: Tensor, column: InputColumn) -> list[Any]:
        where, (_, datatype, shape, data) = f"column {column.name}", tensor
        text = column.dtype == "string"
        if not isinstance(datatype, str) or not (datatype == "BYTES" if text else datatype in NUMPY_TYPES):
            wanted = "BYTES" if text else "FP32 (or another number type)"
            raise BadRequest(f"datatype is {_shortened(datatype)}, but must be {wanted}", where=where)
        if not isinstance(shape, list) or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
            raise BadRequest(f"shape is {_shortened(shape)}, but must be [rows, 1]", where=where)
        if type(shape[0]) is int:
            self._check_rows(shape[0])
        if isinstance(data, memoryview):
            data = values_of(data, datatype, where)
        if not isinstance(data, list):
            raise BadRequest("data must be a list", where=where)
        if data and isinstance(data[0], list):
            if not all(isinstance(row, list) and len(row) == 1 for row in data):
                raise BadRequest("each row of data must hold one value", where=where)
            data = [row[0] for row in data]
        if type(shape[0]) is not int or shape[0] != len(data):
            raise BadRequest(f"shape says {_shortened(shape[0])} rows, but data has {len(data)}", where=where)
        if not data:
            raise BadRequest(f"column {column.name} has no rows")
        if not text and datatype[:2] != "FP":
            check_whole(data, datatype, where)
        return data

    def _check_rows(self, rows: int) -> None:
        if rows > self.max_rows:
            raise BadRequest(f"there are {rows} rows, but at most {self.max_rows} are answered at once")

    def _check_columns(self, given: Collection[str]) -> None:
        """Every column that cannot be missing is there, and no other."""
        wanted = f"wanted: {', '.join(column.name for column in self.columns)}"
        for column in self.columns:
            if column.name not in given and not column.nullable:
                raise BadRequest(f"column {column.name} is missing", remedy=wanted)
        if extra := sorted(set(given) - self.names):
            raise BadRequest(f"there is no column {', '.join(name[:63] for name in extra[:3])}", remedy=wanted)

    def _one_row_of(self, tensors: Sequence[Tensor]) -> Arrays | None:
        """As `_one_row`, of tensors."""
        row = dict[str, Any]()
        for name, datatype, shape, data in tensors:
            types = self._datatypes.get(name, ())
            if type(data) is not list or len(data) != 1 or type(datatype) is not str or datatype not in types:
                return None
            if shape not in ONE_ROW or type(shape[0]) is not int:
                return None
            row[name] = data[0]
        return self._one_row(row) if len(row) == len(tensors) else None

    def _one_row(self, row: Any) -> Arrays | None:
        """A row that fits as it is; None where it is to be looked at again. Most requests have one, which need not
        wait for what pays for many.
        """
        if type(row) is not dict or row.keys() != self.names:
            return None
        for name, types in self.types.items():
            if type(row[name]) not in types:
                return None
        arrays: Arrays = {}
        for name in self._text_names:
            text = row[name] or ""
            if not text and name in self._required_texts:
                return None
            arrays[name] = array = np.empty((1, 1), dtype=object)
            array[0, 0] = text
        numbers = [row[name] for name in self._number_names]
        for value in numbers:
            if value is not None and not -LARGEST <= value <= LARGEST:
                return None
        arrays.update(zip(self._number_names, np.array(numbers, dtype=np.float32).reshape(-1, 1, 1), strict=True))
        return arrays

    def _arrays(self, values: Mapping[str, list[Any]], rows: int) -> Arrays:
        arrays: Arrays = {}
        for name, types in self.types.items():
            if not types.issuperset(map(type, values[name])):
                raise self._refused(name, values[name])
        for column in self.texts:
            texts = values[column.name]
            if column.nullable:
                texts = [value or "" for value in texts]
            elif "" in texts:
                raise self._refused(column.name, texts)
            array = np.empty((rows, 1), dtype=object)
            array[:, 0] = texts
            arrays[column.name] = array
        if not self.numbers:
            return arrays
        try:
            precise = np.array([values[column.name] for column in self.numbers], dtype=np.float64)
        except OverflowError:
            precise = np.full((len(self.numbers), 1), np.inf)
        with np.errstate(over="ignore"):
            block = precise.astype(np.float32).reshape(len(self.numbers), -1, 1)
        if np.isinf(block).any():
            raise self._too_large(values)
        arrays.update(zip((column.name for column in self.numbers), block, strict=True))
        return arrays

    def _refused(self, name: str, values: list[Any]) -> BadRequest:
        """The first of a column's values that is missing or of another type."""
        text, where = name in {column.name for column in self.texts}, f"column {name}"
        for row, value in enumerate(values):
            missing = value is None or (text and value == "")
            if missing and type(None) not in self.types[name]:
                return BadRequest(f"row {row} is missing, but the column may not be", where=where)
            if not missing and type(value) not in self.types[name]:
                wanted = "a string" if text else "a number"
                return BadRequest(f"row {row} is {_shortened(value)}, but must be {wanted}", where=where)
        raise AssertionError(f"{name} has no value that is refused")

    def _too_large(self, values: Mapping[str, list[Any]]) -> BadRequest:
        large = (any(v is not None and abs(v) > LARGEST for v in values[column.name]) for column in self.numbers)
        name = next(compress((column.name for column in self.numbers), large), self.numbers[0].name)
        return BadRequest("a number is too large for a float32", where=f"column {name}")


def check_whole(values: list[Any], datatype: str, where: str) -> None:
    """Values of an integer type, or of BOOL, are those that it has."""
    low, high = (0, 1) if datatype == "BOOL" else _range_of(datatype)
    for row, value in enumerate(values):
        if isinstance(value, (int, float)) and not (low <= value <= high and value == int(value)):
            raise BadRequest(f"row {row} is {_shortened(value)}, which is no {datatype}", where=where)


def _range_of(datatype: str) -> tuple[int, int]:
    info = np.iinfo(NUMPY_TYPES[datatype])
    return int(info.min), int(info.max)


def values_of(data: memoryview, datatype: Any, where: str) -> list[Any]:
    """The values of a binary tensor."""
    if datatype != "BYTES" and not (isinstance(datatype, str) and datatype in NUMPY_TYPES):
        raise BadRequest(f"datatype is {_shortened(datatype)}, but must be BYTES or a number type", where=where)
    return texts_of(data, where) if datatype == "BYTES" else numbers_of(data, datatype, where)


def numbers_of(data: memoryview, datatype: str, where: str) -> list[Any]:
    """The values of a binary tensor of numbers; None for NaN, which is a missing one."""
    kind = np.dtype(NUMPY_TYPES[datatype])
    if len(data) % kind.itemsize:
        raise BadRequest(f"{len(data)} bytes are no whole number of {datatype}", where=where)
    values = np.frombuffer(data, kind).tolist()
    return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN differs from itself


def texts_of(data: memoryview, where: str) -> list[Any]:
    """The texts of a binary tensor: each is its length, four bytes, and its UTF-8."""
    texts, begin = list[Any](), 0
    while begin < len(data):
        end = begin + 4 + int.from_bytes(data[begin : begin + 4], "little")
        if begin + 4 > len(data) or end > len(data):
            raise BadRequest("each text of a binary tensor is its length, 4 bytes, and its bytes", where=where)
        texts.append(text_of(bytes(data[begin + 4 : end]), where, len(texts)))
        begin = end
    return texts


def text_of(content: bytes, where: str, row: int) -> str:
    """A text from its UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"row {row} is no UTF-8", where=where) from None


def binary_tensor(values: NDArray[Any]) -> bytes:
    """The bytes of an output as a binary tensor."""
    if values.dtype != object:
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return binary_texts(str(value).encode() for value in values.ravel().tolist())


def binary_texts(texts: Iterable[bytes]) -> bytes:
    """The bytes of texts as a binary tensor."""
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
