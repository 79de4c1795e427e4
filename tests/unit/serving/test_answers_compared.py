"""Answers of two versions, in V1 and V2, as JSON and as binary tensors."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from mlops_assets.serving.answers_compared import compared, scores_of
from mlops_assets.serving.inference_protocol import Tensor, binary_tensor, with_tensors


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
    rows = found or [(False, 0.25, 0.5), (True, 0.75, 0.5)]
    seen = compared(scores_of(champion), scores_of(candidate))
    assert (seen.rows, seen.changed) == (len(rows), sum(row[0] for row in rows))
    assert sorted(seen.pairs) == [row[1:] for row in rows]


def binary(**outputs: Any) -> tuple[bytes, int]:
    """A response whose outputs are binary tensors."""
    kinds = {"int64": "INT64", "float32": "FP32", "object": "BYTES"}
    arrays = {name: np.array(values) for name, values in outputs.items()}
    tensors = (
        Tensor(name, kinds[values.dtype.name], list(values.shape), binary_tensor(values))
        for name, values in arrays.items()
    )
    return with_tensors({}, "outputs", tensors)


def test_binary_tensors_say_what_json_does() -> None:
    probabilities = np.array([[0.75, 0.25], [0.25, 0.75]], np.float32)
    for labels in (np.array(["a", "b"], object), np.array([0, 1])):
        as_json = scores_of(v2(labels.tolist(), probabilities.tolist()))
        assert scores_of(*binary(label=labels, probabilities=probabilities)) == as_json
    assert scores_of(*binary(prediction=np.array([[1.5], [2]], np.float32))) == scores_of(number(1.5, 2))


def test_of_outputs_that_were_not_asked_for_nothing_is_compared() -> None:
    seen = compared(scores_of(*binary(label=np.array([0, 1]))), scores_of(*binary(label=np.array([0, 0]))))
    assert (seen.rows, seen.changed, seen.pairs) == (2, 1, ())
    mine, its = (binary(probabilities=np.array([[p, 1 - p]], np.float32)) for p in (0.75, 0.25))
    assert compared(scores_of(*mine), scores_of(*its)).changed == 1


@pytest.mark.parametrize(
    "candidate", [b"{}", b"[]", b"1", b"not JSON", v1(1.5), v1(None, 1), v1({"label": 1}, 2), b'{"outputs": [3]}']
)
def test_what_is_no_answer_to_the_same_request_is_said(candidate: bytes) -> None:
    with pytest.raises(ValueError):
        compared(scores_of(v1(1.5, 2)), scores_of(candidate))


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_binary_tensors_that_are_cut_off_are_no_answer(cut: int) -> None:
    body, json_bytes = binary(prediction=np.array([[1.5], [2]], np.float32))
    with pytest.raises(ValueError):
        scores_of(body[:-cut], json_bytes)


def test_what_the_champion_gives_no_number_for_says_nothing_of_the_candidate() -> None:
    """As a number beyond the largest float32: null in JSON, infinity in a binary tensor and in the log."""
    for candidate in (v1(None, 3), v1(1.5, 3)):
        seen = compared(scores_of(v1(None, 2)), scores_of(candidate))
        assert (seen.rows, seen.pairs) == (1, ((2, 3),))
    mine, its = (binary(prediction=np.array([[math.inf], [value]], np.float32)) for value in (2, 3))
    assert compared(scores_of(*mine), scores_of(*its)).pairs == ((2, 3),)
    seen = compared([("a", math.nan), ("a", 0.5)], [("b", 0.5), ("a", 0.5)])
    assert (seen.rows, seen.changed, seen.pairs) == (2, 1, ((0.5, 0.5),))


@pytest.mark.parametrize("candidate", [math.nan, math.inf, -math.inf, 1e200])
def test_a_candidate_that_alone_gives_no_number_is_at_fault(candidate: float) -> None:
    with pytest.raises(ValueError, match="is no number, where the champion's is one"):
        compared([(None, 1.5)], [(None, candidate)])
