"""The target of a regression as it is learnt and as it is answered: standardised, and in its own unit, in float64.

Of a moment in seconds since 1970, float32 knows two minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeatureSet

FAR = 1_000


def is_far(features: FeatureSet) -> bool:
    """Whether float32 could not resolve the target, because its mean is more than 1,000 standard deviations from 0."""
    return abs(features.target_mean) > FAR * features.target_std


def standardised(y: NDArray[np.float64], features: FeatureSet) -> NDArray[np.float64]:
    """Targets (n,) with mean 0 and variance 1 over the train rows."""
    return (np.asarray(y) - features.target_mean) / features.target_std


def in_own_unit(scores: NDArray[Any], features: FeatureSet) -> NDArray[np.float64]:
    """Standardised scores in the target's unit."""
    return scores.astype(np.float64) * features.target_std + features.target_mean


def own_unit_in_graph(graph: Any, scores: str, features: FeatureSet) -> None:
    """Add to an ONNX graph the output `prediction` float64 (n, 1): its standardised `scores` in the target's unit."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: float) -> Any:
        return helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(np.array([value], np.float64), name)
        )

    graph.node.extend(
        [
            constant("target_std", features.target_std),
            constant("target_mean", features.target_mean),
            helper.make_node("Cast", [scores], ["scores_float64"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["scores_float64", "target_std"], ["centred"]),
            helper.make_node("Add", ["centred", "target_mean"], ["prediction"]),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, [None, 1]))
