"""Answers of two versions, in V1 and V2."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlops_assets.serving.answers_compared import RowCompared, compare


def v1(*rows: Any) -> bytes:
    return json.dumps({"predictions": rows}).encode()


def v2(labels: list[Any], probabilities: list[list[float]]) -> bytes:
    flat = [value for row in probabilities for value in row]
    outputs = [
        {"name": "label", "shape": [len(labels), 1], "datatype": "BYTES", "data": labels},
        {"name": "probabilities", "shape": [len(labels), len(probabilities[0])], "datatype": "FP32", "data": flat},
    ]
    return json.dumps({"outputs": outputs}).encode()


def number(*values: float) -> bytes:
    return json.dumps({"outputs": [{"name": "prediction", "shape": [len(values), 1], "data": values}]}).encode()


@pytest.mark.parametrize(
    ("champion", "candidate", "found"),
    [
        (v1(1.5, 2), v1(1.5, 3), [(False, 1.5, 1.5), (False, 2, 3)]),
        (number(1.5, 2), number(1.5, 3), [(False, 1.5, 1.5), (False, 2, 3)]),
        (
            v1({"label": 0, "probabilities": [0.75, 0.25]}),
            v1({"label": 1, "probabilities": [0.25, 0.75]}),
            [(True, 0.25, 0.75)],
        ),
        (v2([0, 1], [[0.75, 0.25], [0.25, 0.75]]), v2([0, 0], [[0.5, 0.5], [0.5, 0.5]]), None),
        (v2(["a"], [[0.5, 0.25, 0.25]]), v2(["b"], [[0.25, 0.5, 0.25]]), [(True, 0.5, 0.5)]),
        (v2(["a"], [[0.5, 0.25, 0.25]]), v2(["a"], [[0.5, 0.5]]), [(False, 0.5, 0.5)]),
    ],
)
def test_rows_are_compared_one_by_one(champion: bytes, candidate: bytes, found: list[Any] | None) -> None:
    found = found or [(False, 0.25, 0.5), (True, 0.75, 0.5)]
    assert compare(champion, candidate) == [RowCompared(*row) for row in found]


@pytest.mark.parametrize(
    "candidate", [b"{}", b"[]", b"1", b"not JSON", v1(1.5), v1(None, 1), v1({"label": 1}, 2), b'{"outputs": [3]}']
)
def test_what_is_no_answer_to_the_same_request_is_said(candidate: bytes) -> None:
    with pytest.raises(ValueError):
        compare(v1(1.5, 2), candidate)
