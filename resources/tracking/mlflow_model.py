"""An artifact as an MLflow model, for everybody who loads models through MLflow; our own server never does."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.inference.artifact import GRAPH, ModelSignature, tensor_name

if TYPE_CHECKING:
    from pathlib import Path


def save_onnx(artifact: Path, folder: Path) -> None:
    """Write the artifact into `folder` as an MLflow ONNX model with signature, input example and requirements.

    It holds the artifact's own two files, byte for byte. `mlflow.pyfunc` gives {output: array} for {column: (n, 1)};
    a column that is called like an output has the name that `tensor_name` gives it.
    """
    import numpy as np
    import onnx
    from mlflow.models import infer_signature
    from mlflow.onnx import save_model

    signature = ModelSignature.read(artifact)
    columns: dict[str, Any] = {}
    for column in signature.inputs:
        values = [row[column.name] for row in signature.golden.rows]
        dtype = object if column.dtype == "string" else np.float32
        columns[tensor_name(column.name)] = np.array(values, dtype=dtype).reshape(-1, 1)
    outputs = {name: np.asarray(values) for name, values in signature.golden.outputs.items()}
    save_model(
        onnx.load(artifact / GRAPH),
        folder,
        onnx_execution_providers=["CPUExecutionProvider"],
        signature=infer_signature(columns, outputs),
        input_example={name: values[:2] for name, values in columns.items()},
        pip_requirements=[f"{package}=={version(package)}" for package in ("mlflow", "onnx", "onnxruntime")],
        save_as_external_data=False,
    )
    for name in (GRAPH, ModelSignature.FILE):
        shutil.copyfile(artifact / name, folder / name)
