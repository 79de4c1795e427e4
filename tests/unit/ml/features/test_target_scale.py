"""The target of a regression keeps its precision, however far from 0 it lies."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.features.target_scale import in_own_unit, is_far, own_unit_in_graph, standardised
from mlops_assets.ml.inference.onnx_model import OnnxModel


def features(mean: float, std: float) -> FeatureSet:
    return FeatureSet.model_construct(task="regression", target_mean=mean, target_std=std)


@pytest.mark.parametrize(("mean", "std", "far"), [(0, 1, False), (1e6, 1e4, False), (1.7e9, 60, True), (-1e5, 1, True)])
def test_a_target_is_far_where_float32_cannot_resolve_it(mean: float, std: float, far: bool) -> None:
    assert is_far(features(mean, std)) is far


def test_targets_come_back_in_their_own_unit() -> None:
    used = features(1.7e9, 60)
    y = np.array([1.7e9, 1.7e9 + 1, 1.7e9 - 3600])
    assert np.allclose(in_own_unit(standardised(y, used), used), y, rtol=0, atol=1e-5)


def test_the_graph_answers_in_the_same_unit() -> None:
    used = features(1.7e9, 60)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["scores"])],
        "scores",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
    )
    own_unit_in_graph(graph, "scores", used)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    scores = np.array([[0.0], [0.5], [-1.0]], dtype=np.float32)
    answers = OnnxModel(model.SerializeToString()).predict({"x": scores})["prediction"]
    assert answers.dtype == np.float64
    assert answers.ravel().tolist() == [1.7e9, 1.7e9 + 30, 1.7e9 - 60]
