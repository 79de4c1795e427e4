"""Requests of both protocols: what fits is read, and everything else is a BadRequest that says why."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.errors import BadRequest
from mlops_assets.ml.inference.artifact import InputColumn
from mlops_assets.serving.inference_protocol import (
    RequestReader,
    binary_tensor,
    numbers_of,
    parse_json,
    request_id_of,
    texts_of,
)

COLUMNS = (
    InputColumn(name="place", dtype="string"),
    InputColumn(name="pressure", dtype="float32"),
    InputColumn(name="humidity", dtype="float32", nullable=True),
)
READER = RequestReader(COLUMNS, max_rows=1_000)
ROW = {"place": "Bern", "pressure": 1000.5, "humidity": 60}


def tensor(name: str, datatype: str, data: list[Any], shape: Any = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data), 1] if shape is None else shape, "data": data}


def v2(**changed: Any) -> dict[str, Any]:
    tensors = {
        "place": tensor("place", "BYTES", ["Bern", "Chur"]),
        "pressure": tensor("pressure", "FP32", [1000.5, 990]),
        "humidity": tensor("humidity", "FP64", [60, None]),
    } | changed
    return {"inputs": [item for item in tensors.values() if item is not None]}


def test_both_protocols_give_the_same_arrays() -> None:
    first = READER.v1({"instances": [ROW, {"place": "Chur", "pressure": 990}]})
    second = READER.v2(v2())
    for name in ("place", "pressure", "humidity"):
        np.testing.assert_array_equal(first[name], second[name])
        assert first[name].shape == (2, 1)
    assert first["pressure"].dtype == np.float32
    assert np.isnan(first["humidity"][1, 0])


def test_flat_and_nested_data_are_the_same() -> None:
    nested = READER.v2(v2(pressure=tensor("pressure", "FP32", [[1000.5], [990]])))
    flat = READER.v2(v2(pressure=tensor("pressure", "FP64", [1000.5, 990], [2])))
    np.testing.assert_array_equal(nested["pressure"], flat["pressure"])


V1 = {
    "no instances": ({}, '"instances" must be a list'),
    "instances empty": ({"instances": []}, "at least one"),
    "instances no list": ({"instances": ROW}, "must be a list"),
    "row no object": ({"instances": [[1, 2]]}, "must be an object"),
    "column missing": ({"instances": [{"pressure": 1}]}, "column place is missing; wanted: place, pressure, humidity"),
    "column too many": ({"instances": [ROW | {"wind": 3}]}, "there is no column wind"),
    "text for number": ({"instances": [ROW | {"pressure": "high"}]}, "column pressure: row 0 is 'high'"),
    "number for text": ({"instances": [ROW | {"place": 3}]}, "column place: row 0 is 3, but must be a string"),
    "list for number": ({"instances": [ROW | {"pressure": [1]}]}, "column pressure: row 0"),
    "null": ({"instances": [ROW, ROW | {"pressure": None}]}, "column pressure: row 1 is missing"),
    "empty text": ({"instances": [ROW | {"place": ""}]}, "column place: row 0 is missing"),
    "too large": ({"instances": [ROW | {"pressure": 1e300}]}, "too large for a float32"),
    "huge integer": ({"instances": [ROW | {"pressure": 2**63}]}, None),
    "hopeless integer": ({"instances": [ROW | {"pressure": 10**400}]}, "column pressure: a number is too large"),
    "too many rows": ({"instances": [ROW] * 1_001}, "1001 rows, but at most 1000"),
}


@pytest.mark.parametrize(("content", "message"), V1.values(), ids=V1)
def test_a_wrong_v1_request_names_column_and_reason(content: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert np.isfinite(READER.v1(content)["pressure"]).all()
        return
    with pytest.raises(BadRequest, match=message):
        READER.v1(content)


V2 = {
    "no inputs": ({}, '"inputs" must be a list'),
    "inputs no list": ({"inputs": {}}, "must be a list"),
    "input no object": ({"inputs": [3]}, "must be an object with name"),
    "input without name": ({"inputs": [{"data": []}]}, "must be an object with name"),
    "column missing": (v2(place=None), "column place is missing"),
    "column too many": (v2(wind=tensor("wind", "FP32", [1, 2])), "there is no column wind"),
    "column twice": (v2(again=tensor("place", "BYTES", ["a", "b"])), "column place is given twice"),
    "datatype": (v2(place=tensor("place", "FP32", [1, 2])), "column place: datatype is 'FP32', but must be BYTES"),
    "datatype unknown": (v2(pressure=tensor("pressure", "FLOAT", [1, 2])), "must be FP32"),
    "no datatype": (v2(pressure={"name": "pressure", "shape": [2, 1], "data": [1, 2]}), "datatype is None"),
    "shape": (v2(pressure=tensor("pressure", "FP32", [1, 2], [2, 2])), r"must be \[rows, 1\]"),
    "shape no list": (v2(pressure=tensor("pressure", "FP32", [1, 2], 2)), r"must be \[rows, 1\]"),
    "shape lies": (v2(pressure=tensor("pressure", "FP32", [1, 2], [3, 1])), "shape says 3 rows, but data has 2"),
    "shape is true": (v2(pressure=tensor("pressure", "FP32", [1], [True, 1])), "shape says True"),
    "data no list": (v2(pressure=tensor("pressure", "FP32", [1, 2]) | {"data": "12"}), "data must be a list"),
    "no rows": (v2(place=tensor("place", "BYTES", [])), "column place has no rows"),
    "ragged": (v2(pressure=tensor("pressure", "FP32", [1, 2, 3])), "column pressure has 3 rows, but place has 2"),
    "nested wrongly": (v2(pressure=tensor("pressure", "FP32", [[1, 2], [3]])), "must hold one value"),
    "text for number": (v2(pressure=tensor("pressure", "FP32", [1, "2"])), "column pressure: row 1 is '2'"),
    "no whole number": (v2(pressure=tensor("pressure", "INT64", [1, 2.5])), "column pressure: row 1 is 2.5.* no INT64"),
    "out of range": (v2(pressure=tensor("pressure", "INT8", [1, 300])), "column pressure: row 1 is 300.* no INT8"),
    "no truth value": (v2(pressure=tensor("pressure", "BOOL", [True, 2])), "column pressure: row 1 is 2.* no BOOL"),
    "too many rows": (v2(pressure=tensor("pressure", "FP32", [1.0] * 1_001)), "1001 rows, but at most 1000"),
    "too large": (v2(pressure=tensor("pressure", "FP64", [1, 1e300])), "too large for a float32, |column pressure"),
}


@pytest.mark.parametrize(("content", "message"), V2.values(), ids=V2)
def test_a_wrong_v2_request_names_column_and_reason(content: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        READER.v2(content)


BINARY = {
    "place": (["Bern", ""], "BYTES", b"\x04\0\0\0Bern\0\0\0\0"),
    "pressure": ([1000.5, 990.0], "FP64", np.array([1000.5, 990.0]).tobytes()),
    "humidity": ([60.0, None], "FP32", np.array([60, np.nan], dtype=np.float32).tobytes()),
}


def binary(**changed: bytes) -> tuple[dict[str, Any], memoryview]:
    """A V2 request of binary tensors for columns that may all be missing."""
    sent = {name: (datatype, changed.get(name, data)) for name, (_, datatype, data) in BINARY.items()}
    inputs = [
        {"name": name, "datatype": datatype, "shape": [2, 1], "parameters": {"binary_data_size": len(data)}}
        for name, (datatype, data) in sent.items()
    ]
    return {"inputs": inputs}, memoryview(b"".join(data for _, data in sent.values()))


NULLABLE = RequestReader([column.model_copy(update={"nullable": True}) for column in COLUMNS], max_rows=1_000)


def test_binary_tensors_are_read_as_json_is() -> None:
    found = NULLABLE.v2(*binary())
    expected = NULLABLE.v1(
        {
            "instances": [
                dict(zip(BINARY, row, strict=True)) for row in zip(*(v[0] for v in BINARY.values()), strict=True)
            ]
        }
    )
    for name in BINARY:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_missing_value_of_a_binary_tensor_is_refused_where_a_column_may_have_none() -> None:
    with pytest.raises(BadRequest, match="column place: row 1 is missing"):
        READER.v2(*binary())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pressure": b"\0" * 15}, "15 bytes are no whole number of FP64"),
        ({"pressure": b"\0" * 8}, "shape says 2 rows, but data has 1"),
        ({"place": b"\x04\0\0\0Ber"}, "each text of a binary tensor is its length"),
        ({"place": b"\xff\xff\xff\xff"}, "each text of a binary tensor is its length"),
        ({"place": b"\x01\0\0\0\xff\0\0\0\0"}, "row 0 is no UTF-8"),
        ({"pressure": np.array([np.inf, 1]).tobytes()}, "column pressure: a number is too large"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(changed: dict[str, bytes], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        NULLABLE.v2(*binary(**changed))


@pytest.mark.parametrize("size", [-1, True, "8", 10**9, 2.0])
def test_a_size_that_the_body_does_not_have_is_refused(size: object) -> None:
    content, data = binary()
    content["inputs"][0]["parameters"]["binary_data_size"] = size
    with pytest.raises(BadRequest, match="binary_data_size must be the number of its bytes"):
        NULLABLE.v2(content, data)


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    content, data = binary()
    with pytest.raises(BadRequest, match="bytes follow the JSON, but its tensors have"):
        NULLABLE.v2(content, memoryview(bytes(data) + b"x"))


@given(st.lists(st.text(max_size=9), max_size=9))
def test_texts_survive_the_way_there_and_back(texts: list[str]) -> None:
    sent = binary_tensor(np.array([*texts, ""], dtype=object))
    assert texts_of(memoryview(sent), "") == [*texts, ""]


class Patient(RequestReader):
    """Looks at each request of one row as at others, too."""

    def _one_row(self, row: Any) -> None:
        return None

    def _one_row_of(self, tensors: Any) -> None:
        return None


VALUES = st.sampled_from([1, 0.5, -1e39, 2**70, True, None, "", "Bern", "é", [1], ["Bern"], {}, []])
SHAPES = st.sampled_from([[1, 1], [1], [True, 1], [1, True], [1.0], [1, 1, 1], [2, 1], [], None, "1", [[1]]])
DATATYPES = st.sampled_from(["FP32", "FP64", "FP16", "INT8", "UINT64", "BOOL", "BYTES", "FP8", None, ["FP32"]])
NAMES = st.sampled_from(["place", "pressure", "humidity", "altitude"])
TENSORS = st.builds(tensor, NAMES, DATATYPES, st.lists(VALUES, max_size=2), SHAPES)


def read(reader: RequestReader, tensors: list[dict[str, Any]]) -> dict[str, Any] | str:
    try:
        return {name: values.tolist() for name, values in reader.v2({"inputs": tensors}).items()}
    except BadRequest as error:
        return str(error)


@given(
    st.builds(tensor, st.just("place"), DATATYPES, st.tuples(VALUES).map(list), SHAPES),
    st.builds(tensor, st.just("pressure"), DATATYPES, st.tuples(VALUES).map(list), SHAPES),
    st.lists(TENSORS, max_size=2),
)
def test_a_request_of_one_row_is_read_as_all_are(place: Any, pressure: Any, others: list[Any]) -> None:
    patient, tensors = Patient(COLUMNS, max_rows=1_000), [place, pressure, *others]
    assert repr(read(READER, tensors)) == repr(read(patient, tensors))
    fitting = [*v2()["inputs"]]
    one = [found | {"shape": [1, 1], "data": found["data"][:1]} for found in fitting]
    for index, odd in enumerate([place, pressure]):
        changed = [*one[:index], odd, *one[index + 1 :]]
        assert repr(read(READER, changed)) == repr(read(patient, changed))


def test_numbers_survive_the_way_there_and_back() -> None:
    assert numbers_of(memoryview(binary_tensor(np.array([1, -(2**62)]))), "INT64", "") == [1, -(2**62)]


@pytest.mark.parametrize("given_id", ["", None])
def test_a_request_without_an_id_has_none(given_id: str | None) -> None:
    assert request_id_of(given_id) is None


@pytest.mark.parametrize("given_id", [1, "x" * 129, "a b", "a\r\nSet-Cookie: b", "ü", ["a"]])
def test_an_id_that_no_header_could_hold_is_refused(given_id: object) -> None:
    with pytest.raises(BadRequest, match="must be at most 128 printable ASCII characters without spaces"):
        request_id_of(given_id)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["place", "pressure", "humidity", "wind"]) | values,
        "datatype": st.sampled_from(["FP32", "BYTES", "INT64"]) | values,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | values,
        "data": st.lists(values, max_size=3) | values,
    },
)
rows = st.dictionaries(st.sampled_from(["place", "pressure", "humidity", "wind"]), values, max_size=4)


@given(content=values | st.fixed_dictionaries({"inputs": st.lists(tensors | values, max_size=4)}))
def test_no_v2_request_gives_anything_but_arrays_or_a_bad_request(content: Any) -> None:
    try:
        arrays = READER.v2(content if isinstance(content, dict) else {"inputs": content})
    except BadRequest:
        return
    assert {array.shape for array in arrays.values()} == {(len(arrays["place"]), 1)}


@given(content=values | st.fixed_dictionaries({"instances": st.lists(rows | values, max_size=4)}))
def test_no_v1_request_gives_anything_but_arrays_or_a_bad_request(content: Any) -> None:
    try:
        arrays = READER.v1(content if isinstance(content, dict) else {"instances": content})
    except BadRequest:
        return
    assert {array.shape for array in arrays.values()} == {(len(arrays["place"]), 1)}


@given(body=st.binary(max_size=60) | values.map(lambda value: repr(value).encode()))
def test_no_body_gives_anything_but_an_object_or_a_bad_request(body: bytes) -> None:
    try:
        assert isinstance(parse_json(body), dict)
    except BadRequest:
        with pytest.raises((orjson.JSONDecodeError, AssertionError)):
            assert isinstance(orjson.loads(body), dict)


@pytest.mark.parametrize("written", [b"NaN", b"-Infinity", b"Infinity"])
def test_numbers_that_json_does_not_have_are_told_with_what_to_send(written: bytes) -> None:
    with pytest.raises(BadRequest, match="NaN and Infinity are no JSON; send null for a missing value"):
        parse_json('{"ort": "Zürich", "x": '.encode() + written + b"}")
    with pytest.raises(BadRequest) as caught:
        parse_json(b'{"x": nun}')
    assert "send null" not in str(caught.value)


def test_many_columns_cost_as_much_each_as_few() -> None:
    def seconds(width: int) -> float:
        columns = tuple(InputColumn(name=f"c{index}", dtype="float32") for index in range(width))
        reader = RequestReader(columns, 100_000)
        content = {"instances": [{column.name: 1.0 for column in columns}] * (40_000 // width)}
        start = time.thread_time()
        reader.v1(content)
        return time.thread_time() - start

    assert min(seconds(800) for _ in range(3)) < 4 * min(seconds(50) for _ in range(3))
