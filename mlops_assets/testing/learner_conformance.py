"""The conformance test of a learner."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.data.contract import NamedColumn
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.learners import learner_for
from resources.lake.folder_store import FolderStore
from resources.lake.lake_checkpoints import LakeCheckpoints

if TYPE_CHECKING:
    from mlops_assets.ml.training.training_config import TrainingConfig
    from mlops_assets.ml.values import Classes, Task

ROWS, WIDTH = 600, 4
CLASSES: dict[Task, Classes | None] = {
    "regression": None,
    "binary_classification": ("no", "yes"),
    "multiclass_classification": ("low", "mid", "high"),
}


def write_features(folder: Path, rows: int, width: int, task: Task = "binary_classification") -> None:
    """Arrays of a features snapshot in `folder`, of which `width` >= 3 features decide the target."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, width)).astype(np.float32)
    score = x[:, 0] + x[:, 1] * x[:, 2] + generator.normal(0, 0.3, rows)
    y: Any = score.astype(np.float32)
    if task != "regression":
        y = np.digitize(score, [0.0] if task == "binary_classification" else [-0.7, 0.7]).astype(np.int64)
    np.save(folder / "x_train.npy", x)
    np.save(folder / "y_train.npy", y)
    names = tuple(f"c{index}" for index in range(width))
    FeatureSet(
        task=task,
        inputs=tuple(NamedColumn(name=name, type="number") for name in names),
        feature_names=names,
        train_rows=rows,
        test_rows=0,
        classes=CLASSES[task],
        target_mean=float(np.mean(y)) if task == "regression" else 0.0,
        target_std=float(np.std(y)) if task == "regression" else 1.0,
        non_finite={},
    ).write(folder)


def check_learner(config: TrainingConfig, task: Task) -> None:
    """Fit what `config.network` names on a small problem, and check what the platform relies on.

    It predicts in the promised shapes, its graph answers as it does for one row and for many, and a second fit with the
    same seed gives the same graph.

    Raises:
        AssertionError: with what does not hold.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "features")
        folder.mkdir()
        write_features(folder, ROWS, WIDTH, task)
        first, second = (_fitted(config, folder, Path(scratch, name)) for name in ("first", "second"))
        x = np.load(folder / "x_train.npy")
        predicted = np.asarray(first.predict(x))
        classes = CLASSES[task]
        wanted = (ROWS, len(classes) if classes else 1)
        assert predicted.shape == wanted, f"predict gives the shape {predicted.shape}, wanted {wanted}"
        output = "probabilities" if classes else "prediction"
        if classes:
            assert np.allclose(predicted.sum(axis=1), 1, atol=1e-4), "the probabilities of a row do not add up to 1"
        graph = first.to_onnx().SerializeToString(deterministic=True)
        model = OnnxModel(graph)
        assert model.output_names == [output], f"to_onnx gives the outputs {model.output_names}, wanted {[output]}"
        for rows in (1, ROWS):
            answers = model.predict({"features": x[:rows]})[output]
            difference = float(np.max(np.abs(answers - predicted[:rows])))
            assert difference < 1e-3, f"the graph differs from predict by {difference:.3g} on {rows} rows"
        again = second.to_onnx().SerializeToString(deterministic=True)
        assert graph == again, "two fits with the same seed give different graphs"


def _fitted(config: TrainingConfig, folder: Path, out: Path) -> Any:
    out.mkdir()
    learner = learner_for(config, FeatureSet.read(folder))
    learner.fit(folder, out, TrainingRun(LakeCheckpoints(FolderStore(out), "checkpoints"), timedelta(minutes=1)))
    return learner
