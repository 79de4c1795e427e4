"""Scikit-learn models as graphs with one output."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

from mlops_assets.ml.features.sklearn_to_onnx import OPSET, to_onnx, with_single_output

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
MODEL = LogisticRegression().fit(X, X[:, 0] > 0)
INPUTS = [("features", FloatTensorType([None, 3]))]


def test_a_graph_needs_no_newer_operators_than_all_others() -> None:
    graph = to_onnx(MODEL, "model", INPUTS)
    newest = {"": OPSET, "ai.onnx.ml": 3}
    assert all(part.version <= newest[part.domain] for part in graph.opset_import)
    assert graph.graph.name == "model"


@pytest.mark.parametrize(("index", "answers"), [(0, MODEL.predict(X)), (1, MODEL.predict_proba(X))])
def test_one_output_is_kept_under_its_new_name(index: int, answers: np.ndarray) -> None:
    graph = with_single_output(to_onnx(MODEL, "model", INPUTS, {id(MODEL): {"zipmap": False}}), index, "kept")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    assert [output.name for output in session.get_outputs()] == ["kept"]
    [found] = session.run(None, {"features": X})
    np.testing.assert_allclose(found.reshape(answers.shape), answers, atol=1e-5)
