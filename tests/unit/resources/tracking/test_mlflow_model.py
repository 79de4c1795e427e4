"""An artifact as an MLflow model: MLflow loads it, and our own two files are in it as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlops_assets.ml.inference.artifact import GRAPH, ModelSignature
from resources.tracking.mlflow_model import save_onnx
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An artifact that triples its number, and the MLflow model of it."""
    home = tmp_path_factory.mktemp("model")
    write_artifact(home / "artifact", factor=3.0)
    save_onnx(home / "artifact", home / "mlflow")
    return home / "artifact", home / "mlflow"


def test_it_holds_the_artifacts_own_files_byte_for_byte(folders: tuple[Path, Path]) -> None:
    artifact, model = folders
    for name in (GRAPH, ModelSignature.FILE):
        assert (model / name).read_bytes() == (artifact / name).read_bytes()


def test_mlflow_answers_as_the_graph_does(folders: tuple[Path, Path]) -> None:
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(folders[1]))
    answers = loaded.predict({"x": np.array([[1.0], [2.0]], dtype=np.float32)})
    assert answers["prediction"].tolist() == [[3.0], [6.0]]


def test_it_says_what_it_takes_and_what_it_needs(folders: tuple[Path, Path]) -> None:
    from mlflow.models import Model

    model = Model.load(str(folders[1]))
    assert model.signature is not None
    assert model.signature.inputs.input_names() == ["x"]
    assert model.signature.outputs.input_names() == ["prediction"]
    assert [line.split("==")[0] for line in (folders[1] / "requirements.txt").read_text().split()] == [
        "mlflow",
        "onnx",
        "onnxruntime",
    ]
