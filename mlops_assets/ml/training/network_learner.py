"""Torch networks as learners: fitted by our own loop, which survives being killed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from mlops_assets.ml.features.sklearn_to_onnx import OPSET
from mlops_assets.ml.features.target_scale import in_own_unit, own_unit_in_graph
from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.ml.training.learner import WEIGHTS
from mlops_assets.ml.training.reproducible import reproducible
from mlops_assets.ml.training.training_loop import finished_training, train
from mlops_assets.ml.training.user_network import TRIED_ROWS, make_network, network_errors, rehearse

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeatureSet
    from mlops_assets.ml.training.learner import LearningCurve, TrainingRun
    from mlops_assets.ml.training.training_config import TrainingConfig

SHIPPED = "mlops_assets.ml.networks."  # known to have an ONNX form
EXPORT_TOLERANCE = 1e-3  # of fresh weights, relative to the largest answer; only what is wrong is as far off


class NetworkLearner:
    """The network that `train.network` names, with the weights of its best epoch."""

    trains_in_parallel: ClassVar[bool] = True

    def __init__(self, config: TrainingConfig, features: FeatureSet) -> None:
        self.config, self.features = config, features
        rehearse(config, features)
        with reproducible(config.seed):
            self.network = make_network(config, features)
            if not config.network.startswith(SHIPPED):
                self._rehearse_export()

    def fit(self, folder: Path, out: Path, run: TrainingRun) -> LearningCurve:
        """Train from the newest checkpoint, or take the result of a training that has finished; writes the weights."""
        result = finished_training(run.checkpoints) or train(folder, self.config, run)
        weights = {name: tensor.cpu().contiguous() for name, tensor in result.weights.items()}
        save_file(weights, out / WEIGHTS)
        self.load(out)
        return result.curve

    def load(self, folder: Path) -> None:
        """Take the weights that `fit` has written."""
        self.network.load_state_dict(load_file(folder / WEIGHTS))
        self.network.eval()

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """What the network's scores mean, in float64."""
        with torch.inference_mode():
            scores = self.network(torch.from_numpy(x)).numpy().astype(np.float64)
        if self.features.task == "regression":
            return in_own_unit(scores, self.features)
        if self.features.task == "binary_classification":
            positive = 1 / (1 + np.exp(-scores))
            return np.concatenate([1 - positive, positive], axis=1)
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def _rehearse_export(self) -> None:
        """Export the fresh network and compare answers, which takes about a second and would else come after training.

        Raises:
            TrainingError: it has no ONNX form, or its graph answers differently.
        """
        x = torch.randn(TRIED_ROWS, len(self.features.feature_names)).numpy()
        with network_errors(self.config.network, "has no ONNX form, which serving needs"):
            self.network.eval()
            graph = OnnxModel(self.to_onnx().SerializeToString())
            for rows in (x, x[:1]):
                [given] = graph.predict({"features": rows}).values()
                wanted = self.predict(rows)
                allowed = EXPORT_TOLERANCE * max(1.0, float(np.nanmax(np.abs(wanted), initial=0.0)))
                if not np.allclose(given, wanted, rtol=0, atol=allowed, equal_nan=True):
                    raise ValueError("the exported graph answers differently than the network")

    def to_onnx(self) -> Any:
        """The network by torch's exporter, and after it what turns scores into the prediction or probabilities."""
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            self.network,
            (torch.zeros(2, len(self.features.feature_names)),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["features"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            verbose=False,
        )
        assert program is not None
        model = _without_names_of_this_machine(program.model_proto)
        if self.features.task == "regression":
            own_unit_in_graph(model.graph, "scores", self.features)
            return model
        nodes, output = _output_nodes(self.features)
        model.graph.node.extend(nodes)
        del model.graph.output[:]
        model.graph.output.append(output)
        return model


def _output_nodes(features: FeatureSet) -> tuple[list[Any], Any]:
    """The nodes that make probabilities of `scores`, and the graph's output."""
    from onnx import TensorProto, helper, numpy_helper

    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, None])
    if features.task == "multiclass_classification":
        return [helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)], probabilities
    return [
        helper.make_node("Sigmoid", ["scores"], ["positive"]),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(1, np.float32), "one")),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
    ], probabilities


def _without_names_of_this_machine(model: Any) -> Any:
    """Drop what tells of this machine, such as file names, so that equal weights give equal bytes."""
    graph = model.graph
    for item in [*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]:
        item.doc_string = ""
        del item.metadata_props[:]
    del graph.metadata_props[:]
    del graph.value_info[:]
    graph.doc_string = ""
    del model.metadata_props[:]
    return model
