"""A graph on raw rows: what it is given, what it answers, and how far two sets of answers are apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.inference.artifact import GRAPH, InputColumn
from mlops_assets.ml.inference.onnx_model import CUDA, OnnxModel, largest_difference, read_rows, to_model_inputs
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = (InputColumn(name="place", dtype="string"), InputColumn(name="pressure", dtype="float32", nullable=True))


def test_outputs_come_by_name(tmp_path: Path) -> None:
    signature = write_artifact(tmp_path / "model", factor=3.0)
    model = OnnxModel((tmp_path / "model" / GRAPH).read_bytes())
    answers = model.predict(to_model_inputs(pd.DataFrame({"x": [1.0, 2.5]}), signature.inputs))
    assert model.output_names == ["prediction"]
    assert answers["prediction"].tolist() == [[3.0], [7.5]]


def endless(turns: int) -> bytes:
    """A graph that gives its input after so many turns that do nothing."""
    number, flag = helper.make_tensor_value_info("i", TensorProto.INT64, []), TensorProto.BOOL
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["on"]), helper.make_node("Identity", ["v"], ["kept"])],
        "body",
        [
            number,
            helper.make_tensor_value_info("c", flag, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("on", flag, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, [None, 1]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "goes", "x"], ["prediction"], body=body)],
        "loop",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("turns", TensorProto.INT64, [], [turns]), helper.make_tensor("goes", flag, [], [True])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def test_a_graph_that_never_ends_is_ended() -> None:
    x = {"x": np.ones((1, 1), np.float32)}
    assert OnnxModel(endless(3)).predict_within(60, x)["prediction"].tolist() == [[1.0]]
    with pytest.raises(ArtifactError, match="does not answer within 0.5 s"):
        OnnxModel(endless(2**62)).predict_within(0.5, x)
    with pytest.raises(ArtifactError, match="cannot be run"):
        OnnxModel(endless(3)).predict_within(60, {"x": np.ones((1, 2), np.float32)})


def test_on_a_gpu_a_graph_runs_only_where_there_is_one(tmp_path: Path) -> None:
    write_artifact(tmp_path / "model")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime can use a GPU")
    with pytest.raises(ArtifactError, match="take an image with onnxruntime-gpu and CUDA"):
        OnnxModel((tmp_path / "model" / GRAPH).read_bytes(), gpu=True)


def test_rows_become_one_array_for_each_input_with_what_is_missing_as_nan_and_empty_text() -> None:
    rows = pd.DataFrame({"pressure": [1013.25, None], "place": ["Bern", None], "ignored": [1, 2]})
    arrays = to_model_inputs(rows, INPUTS)
    assert list(arrays) == ["place", "pressure"]
    assert (arrays["pressure"].dtype, arrays["pressure"].shape) == (np.float32, (2, 1))
    assert arrays["place"].tolist() == [["Bern"], [""]]
    assert math.isnan(arrays["pressure"][1, 0])


def test_the_first_rows_of_a_file_are_read_with_the_graphs_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"pressure": np.arange(10.0), "other": 0, "place": list("abcdefghij")})
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = read_rows(tmp_path / "rows.parquet", INPUTS, 3)
    pd.testing.assert_frame_equal(rows, frame.loc[:2, ["place", "pressure"]])


@pytest.mark.parametrize(
    ("left", "right", "difference"),
    [
        ({"prediction": [[1.0], [2.0]]}, {"prediction": [[1.5], [1.0]]}, 1.0),
        ({"prediction": [[1.0]]}, {"prediction": [[1.0]]}, 0.0),
        ({"prediction": []}, {"prediction": []}, 0.0),
        ({"prediction": [[1.0]]}, {"prediction": [[1.0], [1.0]]}, math.inf),
        ({"prediction": [[1.0]]}, {"probabilities": [[1.0]]}, math.inf),
        ({"prediction": [[1.0], [2.0]]}, {"prediction": [[1.0], [math.nan]]}, math.inf),
        ({"prediction": [[math.nan], [2.0]]}, {"prediction": [[math.nan], [2.5]]}, 0.5),
        ({"prediction": [[math.inf]]}, {"prediction": [[math.inf]]}, 0.0),
        ({"prediction": [[math.inf]]}, {"prediction": [[-math.inf]]}, math.inf),
        ({"label": ["a", "b"]}, {"label": ["a", "c"]}, math.inf),
        ({"label": ["a"], "probabilities": [[0.5]]}, {"label": ["a"], "probabilities": [[0.25]]}, 0.25),
    ],
)
def test_the_largest_difference_counts(left: dict[str, Any], right: dict[str, Any], difference: float) -> None:
    assert largest_difference(left, right) == difference
    assert largest_difference(right, left) == difference
