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
from mlops_assets.serving.inference_protocol import decode_v1, decode_v2, parse_json

COLUMNS = (
    InputColumn(name="place", dtype="string"),
    InputColumn(name="pressure", dtype="float32"),
    InputColumn(name="humidity", dtype="float32", nullable=True),
)
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
    first = decode_v1({"instances": [ROW, {"place": "Chur", "pressure": 990}]}, COLUMNS)
    second = decode_v2(v2(), COLUMNS)
    for name in ("place", "pressure", "humidity"):
        np.testing.assert_array_equal(first[name], second[name])
        assert first[name].shape == (2, 1)
    assert first["pressure"].dtype == np.float32
    assert np.isnan(first["humidity"][1, 0])


def test_flat_and_nested_data_are_the_same() -> None:
    nested = decode_v2(v2(pressure=tensor("pressure", "FP32", [[1000.5], [990]])), COLUMNS)
    flat = decode_v2(v2(pressure=tensor("pressure", "INT64", [1000.5, 990], [2])), COLUMNS)
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
}


@pytest.mark.parametrize(("content", "message"), V1.values(), ids=V1)
def test_a_wrong_v1_request_names_column_and_reason(content: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert np.isfinite(decode_v1(content, COLUMNS)["pressure"]).all()
        return
    with pytest.raises(BadRequest, match=message):
        decode_v1(content, COLUMNS)


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
}


@pytest.mark.parametrize(("content", "message"), V2.values(), ids=V2)
def test_a_wrong_v2_request_names_column_and_reason(content: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decode_v2(content, COLUMNS)


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
        arrays = decode_v2(content if isinstance(content, dict) else {"inputs": content}, COLUMNS)
    except BadRequest:
        return
    assert {array.shape for array in arrays.values()} == {(len(arrays["place"]), 1)}


@given(content=values | st.fixed_dictionaries({"instances": st.lists(rows | values, max_size=4)}))
def test_no_v1_request_gives_anything_but_arrays_or_a_bad_request(content: Any) -> None:
    try:
        arrays = decode_v1(content if isinstance(content, dict) else {"instances": content}, COLUMNS)
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
        content = {"instances": [{column.name: 1.0 for column in columns}] * (40_000 // width)}
        start = time.perf_counter()
        decode_v1(content, columns)
        return time.perf_counter() - start

    assert min(seconds(800) for _ in range(3)) < 4 * min(seconds(50) for _ in range(3))
