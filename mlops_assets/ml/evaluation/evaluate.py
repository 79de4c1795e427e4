"""Judges an exported model on held-out rows: metrics, slices, and how much each raw column matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.evaluation.metrics import classification_metrics, regression_metrics
from mlops_assets.ml.inference.artifact import ModelSignature, load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, to_frame, to_model_inputs
from mlops_assets.ml.training.learner import TRAINING_FILES
from mlops_assets.ml.values import Classes, Document, Task, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

BATCH_ROWS = 65_536
IMPORTANCE_ROWS = 5_000
MAX_SLICES = 20
MIN_SLICE_ROWS = 30


class Slice(Value):
    """The metrics of the rows with one value of a column."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


class EvaluationReport(Document):
    """How good a model is on the test set."""

    FILE = "evaluation.json"

    task: Task
    classes: Classes | None
    rows: int
    metrics: dict[str, float]
    slices: tuple[Slice, ...]
    importance: dict[str, float]


@dataclass(frozen=True)
class Predictions:
    """The truth (n,) of the test set and what the model says: probabilities (n, k), or predictions (n,)."""

    truth: NDArray[Any]
    scores: NDArray[np.float32]


def evaluate(
    artifact: Path, sha256: str, prepared: Path, *, target: str, slices: Sequence[str] = ()
) -> tuple[EvaluationReport, Predictions]:
    """Run the ONNX graph in `artifact` (refused unless its digest is `sha256`) over test.parquet in `prepared`.

    Slices are the 20 most frequent values of each column of `slices` with at least 30 rows. The importance of a column
    is how much worse the loss (log loss, or RMSE) gets when its values are shuffled among 5,000 rows (Breiman, Random
    Forests, 2001).
    """
    graph, signature = load_artifact(artifact, sha256, beside=TRAINING_FILES)
    model = OnnxModel(graph, threads=2)
    truth, scores, kept = list[Any](), list[Any](), dict[str, list[Any]]({name: [] for name in slices})
    for rows in _batches(prepared / "test.parquet", signature, target, slices):
        scores.append(_scores(model, rows, signature))
        truth.append(rows[target].to_numpy())
        for name in slices:
            kept[name].append(rows[name].astype(str).to_numpy())
    predictions = Predictions(np.concatenate(truth), np.concatenate(scores))
    sliced = [s for name in slices for s in _slices(name, np.concatenate(kept[name]), predictions)]
    sample = next(_batches(prepared / "test.parquet", signature, target, slices)).head(IMPORTANCE_ROWS)
    report = EvaluationReport(
        task=signature.task,
        classes=signature.classes,
        rows=len(predictions.truth),
        metrics=_metrics(predictions),
        slices=tuple(sliced),
        importance=_importance(model, sample, signature, target),
    )
    return report, predictions


def test_columns(prepared: Path) -> set[str]:
    """The columns of the test set."""
    import pyarrow.parquet as pq

    return set(pq.read_schema(prepared / "test.parquet").names)


def _batches(path: Path, signature: ModelSignature, target: str, slices: Sequence[str]) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet as pq

    columns = dict.fromkeys([*(column.name for column in signature.inputs), target, *slices])
    for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=list(columns)):
        yield to_frame(batch)


def _scores(model: OnnxModel, rows: pd.DataFrame, signature: ModelSignature) -> NDArray[np.float32]:
    outputs = model.predict(to_model_inputs(rows, signature.inputs))
    return outputs["prediction"][:, 0] if signature.task == "regression" else outputs["probabilities"]


def _metrics(predictions: Predictions) -> dict[str, float]:
    if predictions.scores.ndim == 1:
        return regression_metrics(predictions.truth, predictions.scores)
    return classification_metrics(predictions.truth, predictions.scores)


def _slices(column: str, values: NDArray[Any], predictions: Predictions) -> Iterator[Slice]:
    names, counts = np.unique(values, return_counts=True)
    for index in sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))[:MAX_SLICES]:
        if counts[index] >= MIN_SLICE_ROWS:
            inside = values == names[index]
            part = Predictions(predictions.truth[inside], predictions.scores[inside])
            yield Slice(column=column, value=str(names[index]), rows=int(counts[index]), metrics=_metrics(part))


def _importance(model: OnnxModel, rows: pd.DataFrame, signature: ModelSignature, target: str) -> dict[str, float]:
    measure = "rmse" if signature.task == "regression" else "log_loss"
    truth = rows[target].to_numpy()
    whole = _metrics(Predictions(truth, _scores(model, rows, signature)))[measure]
    generator = np.random.default_rng(0)
    importance = dict[str, float]()
    for column in signature.inputs:
        shuffled = rows.copy()
        shuffled[column.name] = rows[column.name].to_numpy()[generator.permutation(len(rows))]
        importance[column.name] = _metrics(Predictions(truth, _scores(model, shuffled, signature)))[measure] - whole
    return importance
