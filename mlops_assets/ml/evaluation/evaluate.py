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

    @property
    def positive_class(self) -> bool | int | float | str | None:
        """The class that precision, recall, ROC and the like of a binary task are about."""
        return self.classes[1] if self.task == "binary_classification" and self.classes else None


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


def measure(
    artifact: Path, sha256: str, prepared: Path, *, target: str, classes: Classes | None = None
) -> dict[str, float]:
    """The metrics alone of an artifact that may be made from other data than test.parquet in `prepared`.

    `classes` are those of the test set: a class has the probability that the model gives to the one of the same name,
    and 0 where the model does not know it.
    """
    graph, signature = load_artifact(artifact, sha256, beside=TRAINING_FILES)
    model = OnnxModel(graph, threads=2)
    truth, scores = list[Any](), list[Any]()
    for rows in _batches(prepared / "test.parquet", signature, target, ()):
        scores.append(_scores(model, rows, signature))
        truth.append(rows[target].to_numpy())
    found = np.concatenate(scores)
    if classes is not None and signature.classes is not None:
        found = by_class(found, signature.classes, classes)
    return _metrics(Predictions(np.concatenate(truth), found))


def by_class(probabilities: NDArray[np.float32], classes: Classes, wanted: Classes) -> NDArray[np.float32]:
    """Probabilities of shape (n, classes) as those of the `wanted` classes, by name.

    >>> by_class(np.array([[0.2, 0.5, 0.3]], dtype=np.float32), ("a", "b", "c"), ("c", "a", "d")).tolist()
    [[0.30000001192092896, 0.20000000298023224, 0.0]]
    """
    places = {name: index for index, name in enumerate(classes)}
    known = [(new, places[name]) for new, name in enumerate(wanted) if name in places]
    found = np.zeros((len(probabilities), len(wanted)), dtype=probabilities.dtype)
    found[:, [new for new, _ in known]] = probabilities[:, [old for _, old in known]]
    return found


def unfit_inputs(signature: ModelSignature, prepared: Path) -> list[str]:
    """What keeps a model from reading the rows of test.parquet in `prepared`: columns gone, of another type, or empty.

    Without it a number would be read as text, such as "3.0" for "3", and a missing value as one that is there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(prepared / "test.parquet")
    schema, reasons = file.schema_arrow, list[str]()
    for column in signature.inputs:
        if column.name not in schema.names:
            reasons.append(f"it reads {column.name}, which the data lacks now")
            continue
        kind = schema.field(column.name).type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
        if is_text != (column.dtype == "string"):
            wanted, now = ("a category", "a number") if column.dtype == "string" else ("a number", "a category")
            reasons.append(f"it reads {column.name} as {wanted}, which is {now} now")
        elif not column.nullable and any(
            batch.column(0).null_count for batch in file.iter_batches(BATCH_ROWS, columns=[column.name])
        ):
            reasons.append(f"it needs a value of {column.name} in every row, which may be missing now")
    return reasons


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
