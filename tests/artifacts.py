"""The smallest artifact a server can load: a graph of one node, without any training."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, load, numpy_helper

from mlops_assets.ml.inference.artifact import (
    DESCRIPTION,
    GRAPH,
    GoldenRows,
    InputColumn,
    ModelSignature,
    description_digest,
)

if TYPE_CHECKING:
    from pathlib import Path


def write_artifact(folder: Path, factor: float = 2.0) -> ModelSignature:
    """An artifact in `folder`, whose graph multiplies its one number `x` by `factor`."""
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["prediction"])],
        "multiply",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.array([factor], dtype=np.float32), "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content = model.SerializeToString()
    (folder / GRAPH).write_bytes(content)
    signature = ModelSignature(
        model="multiply",
        task="regression",
        inputs=(InputColumn(name="x", dtype="float32"),),
        classes=None,
        sha256=hashlib.sha256(content).hexdigest(),
        golden=GoldenRows(rows=({"x": 1.0}, {"x": 3.0}), outputs={"prediction": [[factor], [3 * factor]]}),
    )
    signature.write(folder)
    return signature


def describe_anew(folder: Path, signature: ModelSignature) -> str:
    """Give an artifact another description, which its graph then holds; the digest of that graph."""
    graph = load(folder / GRAPH)
    del graph.metadata_props[:]
    helper.set_model_props(graph, {DESCRIPTION: description_digest(signature.model_dump_json())})
    content = graph.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    (folder / GRAPH).write_bytes(content)
    signature.model_copy(update={"sha256": digest}).write(folder)
    return digest
