"""Makes ONE ONNX graph of preprocessing and model: from raw columns to the prediction, and nothing else to ship."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import FeatureSet, inputs_of, load_arrays
from mlops_assets.ml.features.preprocessing import FEATURES
from mlops_assets.ml.inference.artifact import (
    DESCRIPTION,
    GRAPH,
    INSIDE,
    GoldenRows,
    InputColumn,
    ModelSignature,
    description_digest,
)
from mlops_assets.ml.inference.onnx_model import OnnxModel, read_rows, to_model_inputs
from mlops_assets.ml.training.agreement import largest_difference

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.ml.training.learner import Learner

IR_VERSION = 10
GOLDEN_ROWS = 16
COMPARED_ROWS = 2_048
BACKGROUND_ROWS, BACKGROUND_BYTES = 64, 512 << 10  # a column may hold whole documents
ROW_ALONE = 1e-3  # float32 adds up otherwise in another size of batch; what mixes rows is further off


def export(model: str, folder: Path, out: Path, learner: Learner) -> ModelSignature:
    """Write model.onnx and model.json into `out`: the preprocessing in the features' `folder`, and the fitted learner.

    Inputs: one (n, 1) tensor for each raw column. Outputs: `prediction` float64 (n, 1) for regression; `label` (n,),
    the class, and `probabilities` float32 (n, k) for classification.

    Raises:
        TrainingError: the graph answers a row differently when others are beside it.
    """
    import onnx

    features = FeatureSet.read(folder)
    graph = _merged(onnx.load(folder / "preprocessing.onnx"), learner.to_onnx(), features)
    content = graph.SerializeToString(deterministic=True)
    inputs = inputs_of(features.inputs)
    rows = read_rows(folder / "reference.parquet", inputs, COMPARED_ROWS)
    outputs = OnnxModel(content).predict(to_model_inputs(rows, inputs))
    answers = outputs["prediction" if features.task == "regression" else "probabilities"]
    _check_rows_alone(OnnxModel(content), rows.head(GOLDEN_ROWS), answers, inputs, features)
    x, _ = load_arrays(folder, "train")
    signature = ModelSignature(
        model=model,
        task=features.task,
        inputs=inputs,
        classes=features.classes,
        sha256="",
        golden=_golden_rows(rows, outputs, inputs),
        background=_background(rows, inputs),
        export_difference=largest_difference(answers, learner.predict(np.array(x[: len(rows)])), features),
    )
    # The digest that is registered is the graph's, and through this one the description's
    onnx.helper.set_model_props(graph, {DESCRIPTION: description_digest(signature.model_dump_json())})
    content = graph.SerializeToString(deterministic=True)
    (out / GRAPH).write_bytes(content)
    signature = signature.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    signature.write(out)
    return signature


def _merged(preprocessing: Any, model: Any, features: FeatureSet) -> Any:
    """Preprocessing and model as one graph, for classification with the label of the most probable class."""
    import onnx
    from onnx import TensorProto, compose, helper

    for graph in (preprocessing, model):
        graph.ir_version = IR_VERSION
        graph.producer_name = graph.producer_version = graph.domain = graph.doc_string = ""
    versions = {item.domain: item.version for part in (preprocessing, model) for item in part.opset_import}
    for part in (preprocessing, model):
        del part.opset_import[:]
        part.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sorted(versions.items()))
    model = compose.add_prefix(model, f"{INSIDE}model/")
    [given], [found] = model.graph.input, model.graph.output
    merged = compose.merge_models(preprocessing, model, [(FEATURES, given.name)])
    del merged.graph.output[:]
    if features.classes is None:
        # In the target's own unit: of a moment in seconds, float32 knows two minutes
        merged.graph.node.append(helper.make_node("Cast", [found.name], ["prediction"], to=TensorProto.DOUBLE))
        outputs = [("prediction", TensorProto.DOUBLE, [None, 1])]
    else:
        nodes, label_type = _label_nodes(features.classes)
        merged.graph.node.append(helper.make_node("Identity", [found.name], ["probabilities"]))
        merged.graph.node.extend(nodes)
        outputs = [
            ("label", label_type, [None]),
            ("probabilities", TensorProto.FLOAT, [None, len(features.classes)]),
        ]
    merged.graph.output.extend(helper.make_tensor_value_info(*output) for output in outputs)
    merged.graph.name = "raw_columns_to_prediction"
    onnx.checker.check_model(merged, full_check=True)
    return merged


def _label_nodes(classes: tuple[Any, ...]) -> tuple[list[Any], int]:
    """The nodes from `probabilities` to `label`, and the label's type."""
    from onnx import TensorProto, helper, numpy_helper

    if isinstance(classes[0], str):
        values, label_type = np.array(classes, dtype=object), TensorProto.STRING
    elif any(isinstance(value, float) for value in classes):
        values, label_type = np.array(classes, dtype=np.float64), TensorProto.DOUBLE
    else:
        values, label_type = np.array(classes, dtype=np.int64), TensorProto.INT64
    names, index = f"{INSIDE}label/classes", f"{INSIDE}label/index"
    return [
        helper.make_node("Constant", [], [names], value=numpy_helper.from_array(values, names)),
        helper.make_node("ArgMax", ["probabilities"], [index], axis=1, keepdims=0),
        helper.make_node("Gather", [names, index], ["label"], axis=0),
    ], label_type


def _check_rows_alone(
    graph: OnnxModel, rows: Any, answers: NDArray[Any], inputs: tuple[InputColumn, ...], features: FeatureSet
) -> None:
    """A predictor is asked for any number of rows at once."""
    name = "prediction" if features.task == "regression" else "probabilities"
    alone = [graph.predict(to_model_inputs(rows.iloc[[row]], inputs))[name] for row in range(len(rows))]
    difference = largest_difference(np.concatenate(alone), answers[: len(rows)], features)
    if not difference <= ROW_ALONE:
        what = f"the graph answers a row differently when others are beside it, by {difference:.3g}"
        raise TrainingError(what, where="train.network", remedy="compute each row's answer from that row alone")


def _golden_rows(rows: Any, outputs: dict[str, NDArray[Any]], inputs: tuple[InputColumn, ...]) -> GoldenRows:
    chosen = rows.head(GOLDEN_ROWS)
    return GoldenRows(
        rows=_raw_rows(chosen, inputs),
        outputs={name: values[: len(chosen)].tolist() for name, values in outputs.items()},
    )


def _background(rows: Any, inputs: tuple[InputColumn, ...]) -> tuple[dict[str, float | str | None], ...]:
    """Some of the rows, from all over them, and fewer where these are long."""
    chosen = _raw_rows(rows.iloc[:: max(1, len(rows) // BACKGROUND_ROWS)].head(BACKGROUND_ROWS), inputs)
    fit = BACKGROUND_BYTES * len(chosen) // max(1, len(json.dumps(chosen)))
    return chosen[: max(1, fit)]


def _raw_rows(rows: Any, inputs: tuple[InputColumn, ...]) -> tuple[dict[str, float | str | None], ...]:
    return tuple(
        {column.name: _as_json(row[column.name], column) for column in inputs} for row in rows.to_dict("records")
    )


def _as_json(value: Any, column: InputColumn) -> float | str | None:
    if column.dtype == "string":
        return str(value)
    return None if np.isnan(value) else float(value)
