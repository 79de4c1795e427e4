"""The conformance test of a learner."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.ml.data.contract import NamedColumn, Target
from mlops_assets.ml.evaluation.evaluate import evaluate
from mlops_assets.ml.features.feature_set import FeaturePlan, FeatureSet, build_features
from mlops_assets.ml.inference.artifact import TOLERANCE, load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, read_rows, to_model_inputs
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.learner import TRAINING_FILES, LearningCurve, TrainingRun
from mlops_assets.ml.training.learners import learner_for
from resources.lake.folder_store import FolderStore
from resources.lake.lake_checkpoints import LakeCheckpoints

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlops_assets.ml.training.training_config import TrainingConfig
    from mlops_assets.ml.values import Classes, Task

ROWS, WIDTH = 600, 4
CLASSES: dict[Task, Classes | None] = {
    "regression": None,
    "binary_classification": ("no", "yes"),
    "multiclass_classification": ("low", "mid", "high"),
}


def check_learner(config: TrainingConfig, task: Task) -> None:
    """Train what `config.network` names on a small problem, and check what the platform relies on.

    It goes the way of a run, by the same functions: features, fit, export, the rules of an artifact, evaluation. So
    what passes here is not refused there.

    Raises:
        AssertionError: with what does not hold.
    """
    with TemporaryDirectory() as scratch:
        prepared, folder = Path(scratch, "prepared"), Path(scratch, "features")
        prepared.mkdir()
        folder.mkdir()
        plan = _write_prepared(prepared, task)
        features = build_features(prepared, folder, plan)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        digests = [_trained(config, features, folder, prepared, Path(scratch, name)) for name in ("first", "second")]
        after = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert after == before, "fit changed the arrays that it learns from"
        assert digests[0] == digests[1], "two fits with the same seed give different graphs"


def _write_prepared(prepared: Path, task: Task) -> FeaturePlan:
    """Train and test rows of which the columns decide the target."""
    import pandas as pd

    generator = np.random.default_rng(0)
    classes = CLASSES[task]
    names = [f"c{index}" for index in range(WIDTH)]
    for part in ("train", "test"):
        rows = pd.DataFrame({name: generator.normal(size=ROWS).astype(np.float32) for name in names})
        score = rows.c0 + rows.c1 * rows.c2 + generator.normal(0, 0.3, ROWS)
        bounds = [0.0] if task == "binary_classification" else [-0.7, 0.7]
        rows["y"] = (score * 1e3 + 5e3).astype(np.float32) if classes is None else np.digitize(score, bounds)
        rows.to_parquet(prepared / f"{part}.parquet")
    columns = tuple(NamedColumn(name=name, type="number") for name in names)
    return FeaturePlan(use=columns, target=Target(column="y"), task=task, classes=classes, validation_rows=ROWS // 10)


def _trained(config: TrainingConfig, features: FeatureSet, folder: Path, prepared: Path, out: Path) -> str:
    """Fit, predict, export and evaluate; the digest of the graph."""
    out.mkdir()
    with _step("learner"):
        learner = learner_for(config, features)
        assert isinstance(learner.trains_in_parallel, bool), "trains_in_parallel must be True or False"
    with _step("fit"):
        run = TrainingRun(LakeCheckpoints(FolderStore(out), "checkpoints"), timedelta(minutes=1))
        curve = learner.fit(folder, out, run)
        assert isinstance(curve, LearningCurve), f"fit gives {type(curve).__name__}, wanted a LearningCurve"
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        curve.write(out)
    with _step("predict"):
        predicted = np.asarray(learner.predict(np.load(folder / "x_train.npy")))
        wanted = (ROWS, len(features.classes) if features.classes else 1)
        assert predicted.shape == wanted, f"predict gives the shape {predicted.shape}, wanted {wanted}"
        assert np.isfinite(predicted).all(), "predict gives NaN or infinity"
        if features.classes:
            assert ((predicted >= 0) & (predicted <= 1)).all(), "a probability lies outside of 0 to 1"
            assert np.allclose(predicted.sum(axis=1), 1, atol=1e-4), "the probabilities of a row do not add up to 1"
    with _step("to_onnx"):
        signature = export("conformance", folder, out, learner)
        difference, allowed = signature.export_difference, TOLERANCE
        assert difference <= allowed, f"the graph differs from predict by {difference:.3g}, allowed {allowed:.3g}"
        graph, _ = load_artifact(out, signature.sha256, beside=TRAINING_FILES)
        rows = read_rows(folder / "reference.parquet", signature.inputs, 1)
        OnnxModel(graph).predict(to_model_inputs(rows, signature.inputs))  # one row, and then all of the test set
        evaluate(out, signature.sha256, prepared, target="y")
    return signature.sha256


@contextmanager
def _step(name: str) -> Generator[None]:
    """What is raised in the block becomes an AssertionError with the step's name."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{name}: {error or type(error).__name__}") from error
