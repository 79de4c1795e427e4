"""A message says over HTTP what it says itself, and so does an answer the other way round."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mlops_assets.ml.errors import BadRequest
from mlops_assets.ml.inference.artifact import InputColumn
from mlops_assets.serving.grpc_messages import CONTENTS, as_http, as_message, pb, tensors_of_message
from mlops_assets.serving.http_answers import JSON_LENGTH, Answer
from mlops_assets.serving.inference_protocol import (
    RequestReader,
    Tensor,
    binary_tensor,
    parse_v2,
    tensors_of,
    values_of,
    with_tensors,
)

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "UINT8": [0, 255],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "FP32": [1.5, -0.25],
    "FP64": [0.1, 1e300],
    "BYTES": [b"a", "ü€😀".encode(), b""],
}


def message(datatype: str, values: list[Any], **more: Any) -> Any:
    request = pb.ModelInferRequest(model_name="m", **more)
    given = request.inputs.add(name="x", datatype=datatype, shape=[len(values), 1])
    getattr(given.contents, CONTENTS[datatype]).extend(values)
    return request


def told(request: Any) -> tuple[dict[str, Any], list[Tensor]]:
    """The JSON and the tensors of a message over HTTP."""
    http = as_http(request, {})
    content, binary = parse_v2(http.body, http.json_bytes)
    return content, tensors_of(content, "inputs", binary)


@pytest.mark.parametrize("datatype", VALUES)
def test_every_type_has_its_values_over_http(datatype: str) -> None:
    _, [tensor] = told(message(datatype, VALUES[datatype]))
    given = [value.decode() if isinstance(value, bytes) else value for value in VALUES[datatype]]
    assert tensor[:3] == ("x", datatype, [len(given), 1])
    assert values_of(tensor.data, datatype, "") == given


@pytest.mark.parametrize("datatype", VALUES)
def test_every_type_comes_back(datatype: str) -> None:
    values = VALUES[datatype]
    _, [tensor] = told(message(datatype, values))
    body, json_bytes = with_tensors({"model_name": "m", "model_version": "7", "id": "mine"}, "outputs", [tensor])
    answer = Answer(200, body, headers=[(JSON_LENGTH, str(json_bytes).encode())])
    found = as_message(answer, raw=False)
    assert (found.model_name, found.model_version, found.id) == ("m", "7", "mine")
    assert list(getattr(found.outputs[0].contents, CONTENTS[datatype])) == values
    assert list(as_message(answer, raw=True).raw_output_contents) == [bytes(tensor.data)]


def test_an_answer_in_json_comes_back_too() -> None:
    head = b'{"outputs": [{"name": "p", "datatype": "FP32", "shape": [2, 1], "data": [1.5, null]}]}'
    [number, missing] = as_message(Answer(200, head), raw=False).outputs[0].contents.fp32_contents
    assert (number, math.isnan(missing)) == (1.5, True)
    raw = as_message(Answer(200, head), raw=True).raw_output_contents[0]
    assert np.array_equal(np.frombuffer(raw, "<f4"), np.array([1.5, np.nan], "<f4"), equal_nan=True)
    text = b'{"outputs": [{"name": "l", "datatype": "BYTES", "shape": [1], "data": ["\xc3\xbc"]}]}'
    assert list(as_message(Answer(200, text), raw=False).outputs[0].contents.bytes_contents) == ["ü".encode()]
    assert as_message(Answer(200, text), raw=True).raw_output_contents[0] == binary_tensor(np.array(["ü"], object))


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        b"[]",
        b"{}",
        b'{"outputs": [{"name": "p"}]}',
        b'{"outputs": [{"name": "p", "datatype": "FLOAT", "shape": [1], "data": [1]}]}',
        b'{"outputs": [{"name": "p", "datatype": "FP32", "shape": "one", "data": [1]}]}',
        b'{"outputs": [{"name": "p", "datatype": "FP32", "shape": [1], "data": ["one"]}]}',
        b'{"outputs": [{"name": "p", "datatype": "INT64", "shape": [1], "data": [1.5e300]}]}',
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_what_is_no_answer_is_said(content: bytes, raw: bool) -> None:
    with pytest.raises(ValueError, match="no response of the Open Inference Protocol"):
        as_message(Answer(200, content), raw=raw)


def test_an_answer_that_is_cut_off_is_said() -> None:
    with pytest.raises(ValueError, match="no response"):
        as_message(Answer(200, b"{}", headers=[(JSON_LENGTH, b"3")]), raw=False)


def test_what_is_asked_for_goes_along() -> None:
    content, _ = told(message("FP32", [1.0]))
    assert content["parameters"] == {"binary_data_output": True}
    assert "id" not in content
    content, _ = told(message("FP32", [1.0], id="mine", outputs=[{"name": "label"}]))
    assert (content["id"], content["outputs"]) == ("mine", [{"name": "label"}])
    assert as_http(message("FP32", [1.0]), {}).path == "/v2/models/m/infer"
    assert as_http(message("FP32", [1.0], model_version="3"), {}).path == "/v2/models/m/versions/3/infer"
    given = {b"x-user": b"u", b"content-type": b"application/grpc"}
    assert as_http(message("FP32", [1.0]), given).headers[b"x-user"] == b"u"
    assert as_http(message("FP32", [1.0]), given).headers[b"content-type"] == b"application/octet-stream"


SPOILED: dict[str, Any] = {
    "out of range": message("INT8", [300]),
    "below": message("UINT8", [256]),
    "missing": message("FP32", [math.nan]),
    "infinite": message("FP64", [math.inf]),
    "no UTF-8": message("BYTES", [b"\xff"]),
    "nothing": message("FP32", []),
    "another type": pb.ModelInferRequest(inputs=[{"name": "x", "datatype": "FLOAT", "shape": [1]}]),
    "half a number": pb.ModelInferRequest(
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}], raw_input_contents=[b"123"]
    ),
    "only some raw": pb.ModelInferRequest(
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1]}], raw_input_contents=[b"1234", b"1234"]
    ),
    "given twice": pb.ModelInferRequest(
        inputs=[{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}}],
        raw_input_contents=[b"1234"],
    ),
}


@pytest.mark.parametrize("request_", SPOILED.values(), ids=SPOILED)
def test_what_does_not_fit_is_refused_with_the_same_reason(request_: Any) -> None:
    dtype = "string" if request_.inputs[0].datatype == "BYTES" else "float32"
    reader = RequestReader([InputColumn(name="x", dtype=dtype)], 10)

    def over_http() -> Any:
        http = as_http(request_, {})
        return reader.v2(*parse_v2(http.body, http.json_bytes))

    reasons = []
    for read in (lambda: reader.tensors(tensors_of_message(request_)), over_http):
        with pytest.raises(BadRequest) as caught:
            read()
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]
