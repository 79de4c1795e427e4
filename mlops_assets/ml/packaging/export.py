"""Makes ONE ONNX graph of preprocessing and model: from raw columns to the prediction, and nothing else to ship."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.features.feature_set import FeatureSet, inputs_of, load_arrays
from mlops_assets.ml.features.preprocessing import OPSET
from mlops_assets.ml.inference.artifact import GRAPH, GoldenRows, InputColumn, ModelSignature
from mlops_assets.ml.inference.onnx_model import OnnxModel, read_rows, to_model_inputs
from mlops_assets.ml.networks import construct, find, is_torch

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.ml.training.training_config import TrainingConfig

IR_VERSION = 10
GOLDEN_ROWS = 16
COMPARED_ROWS = 2_048


def export(model: str, features: Path, out: Path, config: TrainingConfig, estimator: Any | None) -> ModelSignature:
    """Write model.onnx and model.json into `out`: from the fitted `estimator`, or from the network's weights in `out`.

    Inputs: one (n, 1) tensor for each raw column. Outputs: `prediction` float32 (n, 1) for regression; `label` (n,),
    the class, and `probabilities` float32 (n, k) for classification.
    """
    import onnx

    made = FeatureSet.model_validate_json((features / "features.json").read_bytes())
    before = onnx.load(features / "preprocessing.onnx")
    width = len(made.feature_names)
    if estimator is None:
        after, trained = _network(out, config, made)
    else:
        after, trained = _estimator(estimator, config, width)
    graph = _joined(before, after, made, config, raw_scores=estimator is None)
    content = graph.SerializeToString(deterministic=True)
    (out / GRAPH).write_bytes(content)
    inputs = inputs_of(made.inputs)
    rows = read_rows(features / "reference.parquet", inputs, COMPARED_ROWS)
    outputs = OnnxModel(content).predict(to_model_inputs(rows, inputs))
    x, _ = load_arrays(features, "train")
    signature = ModelSignature(
        model=model,
        task=config.task,
        inputs=inputs,
        classes=made.classes,
        sha256=hashlib.sha256(content).hexdigest(),
        golden=_golden_rows(rows, outputs, inputs),
        export_difference=_difference(outputs, trained(np.array(x[: len(rows)])), config, made),
    )
    signature.write(out)
    return signature


def _network(out: Path, config: TrainingConfig, made: FeatureSet) -> tuple[Any, Any]:
    """The network's ONNX graph from `features` to `scores`, and the network itself as a function of arrays."""
    import logging

    import torch
    from safetensors.torch import load_file

    outputs = len(made.classes) if made.classes and config.task == "multiclass_classification" else 1
    network = construct(find(config.network), config.params, inputs=len(made.feature_names), outputs=outputs)
    network.load_state_dict(load_file(out / "weights.safetensors"))
    network.eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        network,
        (torch.zeros(2, len(made.feature_names)),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["features"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        verbose=False,
    )
    assert program is not None

    def trained(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()

    return _tidy(program.model_proto), trained


def _estimator(estimator: Any, config: TrainingConfig, width: int) -> tuple[Any, Any]:
    """The estimator's ONNX graph from `features` to `scores`, and the estimator itself as a function of arrays."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    regression = config.task == "regression"
    options = None if regression else {id(estimator): {"zipmap": False, "output_class_labels": False}}
    graph: Any = convert_sklearn(
        estimator,
        "estimator",
        [("features", FloatTensorType([None, width]))],
        target_opset={"": OPSET, "ai.onnx.ml": 3},
        options=options,
    )
    wanted = graph.graph.output[0 if regression else 1].name
    for output in [output for output in graph.graph.output if output.name != wanted]:
        graph.graph.output.remove(output)
    for node in graph.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = "scores" if name == wanted else name
        for index, name in enumerate(node.input):
            node.input[index] = "scores" if name == wanted else name
    graph.graph.output[0].name = "scores"
    predict = estimator.predict if regression else estimator.predict_proba
    return graph, lambda x: np.asarray(predict(x), dtype=np.float32)


def _joined(before: Any, after: Any, made: FeatureSet, config: TrainingConfig, *, raw_scores: bool) -> Any:
    """Preprocessing, model, and what turns its scores into the outputs."""
    import onnx
    from onnx import TensorProto, compose, helper

    for graph in (before, after):
        graph.ir_version = IR_VERSION
        graph.producer_name = graph.producer_version = graph.domain = graph.doc_string = ""
    versions = {item.domain: item.version for part in (before, after) for item in part.opset_import}
    for part in (before, after):
        del part.opset_import[:]
        part.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sorted(versions.items()))
    renamed = compose.add_prefix(after, "model_", rename_inputs=False, rename_outputs=False)
    joined = compose.merge_models(_prefixed(before), renamed, [("features", "features")])
    nodes, outputs = _ending(made, config, raw_scores)
    joined.graph.node.extend(nodes)
    del joined.graph.output[:]
    kinds = {
        "prediction": (TensorProto.FLOAT, [None, 1]),
        "probabilities": (TensorProto.FLOAT, [None, len(made.classes or ())]),
        "label": (TensorProto.STRING if _has_text(made) else _label_kind(made), [None]),
    }
    joined.graph.output.extend(helper.make_tensor_value_info(name, *kinds[name]) for name in outputs)
    joined.graph.name = "raw_columns_to_prediction"
    onnx.checker.check_model(joined, full_check=True)
    return joined


def _prefixed(graph: Any) -> Any:
    from onnx import compose

    return compose.add_prefix(graph, "prepare_", rename_inputs=False, rename_outputs=False)


def _has_text(made: FeatureSet) -> bool:
    return made.classes is not None and isinstance(made.classes[0], str)


def _label_kind(made: FeatureSet) -> int:
    from onnx import TensorProto

    return TensorProto.FLOAT if any(isinstance(value, float) for value in made.classes or ()) else TensorProto.INT64


def _ending(made: FeatureSet, config: TrainingConfig, raw_scores: bool) -> tuple[list[Any], tuple[str, ...]]:
    """The nodes from `scores` to the outputs."""
    from onnx import helper, numpy_helper

    def constant(name: str, value: NDArray[Any]) -> Any:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))

    if config.task == "regression":
        scale, shift = (made.target_std, made.target_mean) if raw_scores else (1.0, 0.0)
        return [
            constant("target_std", np.array([scale], dtype=np.float32)),
            constant("target_mean", np.array([shift], dtype=np.float32)),
            helper.make_node("Mul", ["scores", "target_std"], ["centred"]),
            helper.make_node("Add", ["centred", "target_mean"], ["prediction"]),
        ], ("prediction",)
    if not raw_scores:
        nodes = [helper.make_node("Identity", ["scores"], ["probabilities"])]
    elif config.task == "binary_classification":
        nodes = [
            helper.make_node("Sigmoid", ["scores"], ["positive"]),
            constant("one", np.array([1], dtype=np.float32)),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
        ]
    else:
        nodes = [helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)]
    nodes += [
        constant("classes", _class_values(made)),
        helper.make_node("ArgMax", ["probabilities"], ["class_index"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "class_index"], ["label"], axis=0),
    ]
    return nodes, ("label", "probabilities")


def _class_values(made: FeatureSet) -> NDArray[Any]:
    values = list(made.classes or ())
    if _has_text(made):
        return np.array(values, dtype=object)
    return np.array(values, dtype=np.float32 if any(isinstance(v, float) for v in values) else np.int64)


def _tidy(model: Any) -> Any:
    """Drop what tells of this machine, such as file names, so that equal weights give equal bytes."""
    for graph in [model.graph]:
        for item in [*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]:
            item.doc_string = ""
            del item.metadata_props[:]
        del graph.metadata_props[:]
        del graph.value_info[:]
        graph.doc_string = ""
    del model.metadata_props[:]
    return model


def _golden_rows(rows: Any, outputs: dict[str, NDArray[Any]], inputs: tuple[InputColumn, ...]) -> GoldenRows:
    chosen = rows.head(GOLDEN_ROWS)
    records = [
        {column.name: _plain(row[column.name], column) for column in inputs} for row in chosen.to_dict("records")
    ]
    return GoldenRows(
        rows=tuple(records), outputs={name: values[: len(chosen)].tolist() for name, values in outputs.items()}
    )


def _plain(value: Any, column: InputColumn) -> float | str | None:
    if column.dtype == "string":
        return str(value)
    return None if np.isnan(value) else float(value)


def _difference(
    outputs: dict[str, NDArray[Any]], scores: NDArray[Any], config: TrainingConfig, made: FeatureSet
) -> float:
    """Largest absolute difference between the graph's answers and the trained model's; for regression, relative to the
    largest answer or the target's standard deviation, which float32 can resolve."""
    if config.task == "regression":
        predicted, trained = outputs["prediction"][:, 0], scores.reshape(-1).astype(np.float64)
        if is_torch(find(config.network)):
            trained = trained * made.target_std + made.target_mean
        return float(np.max(np.abs(predicted - trained)) / max(made.target_std, np.max(np.abs(trained))))
    if is_torch(find(config.network)):
        scores = scores.astype(np.float64)
        if config.task == "binary_classification":
            positive = 1 / (1 + np.exp(-scores))
            scores = np.concatenate([1 - positive, positive], axis=1)
        else:
            shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = shifted / shifted.sum(axis=1, keepdims=True)
    return float(np.max(np.abs(outputs["probabilities"] - scores)))
