"""Judges an exported model on held-out rows: metrics, slices, and how much each raw column matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.evaluation.metrics import classification_metrics, regression_metrics
from mlops_assets.ml.features.preprocessing import MAX_CATEGORIES
from mlops_assets.ml.inference.artifact import ModelSignature, load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, to_frame, to_model_inputs
from mlops_assets.ml.training.learner import TRAINING_FILES
from mlops_assets.ml.values import Classes, Document, Task, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

BATCH_ROWS, BATCH_BYTES = 65_536, 32 << 20
IMPORTANCE_ROWS = 5_000
MAX_SLICES = 20
MIN_SLICE_ROWS = 30
MISSING = "(missing)"


class Slice(Value):
    """The metrics of the rows with one value of a column."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


class EvaluationReport(Document):
    """How good a model is on the test set. A metric that is not defined, as R2 of a constant truth, is NaN."""

    FILE = "evaluation.json"

    task: Task
    classes: Classes | None
    rows: int
    metrics: dict[str, float]
    slices: tuple[Slice, ...]
    importance: dict[str, float]

    @property
    def positive(self) -> bool | int | float | str | None:
        """Of two classes the one that precision, recall, F1, the areas and the Brier score are about; else None."""
        return self.classes[1] if self.classes is not None and len(self.classes) == 2 else None


@dataclass(frozen=True)
class Predictions:
    """The truth (n,) of the test set and what the model says: probabilities (n, k), or predictions (n,)."""

    truth: NDArray[Any]
    scores: NDArray[np.floating[Any]]


def evaluate(
    artifact: Path, sha256: str, prepared: Path, *, target: str, slices: Sequence[str] = ()
) -> tuple[EvaluationReport, Predictions]:
    """Run the ONNX graph in `artifact` (refused unless its digest is `sha256`) over test.parquet in `prepared`.

    Slices are the 20 most frequent values of each column of `slices` with at least 30 rows. The importance of a column
    is how much worse the loss (log loss, or RMSE) gets when its values are shuffled among 5,000 rows (Breiman, Random
    Forests, 2001).

    Raises:
        ArtifactError: the artifact is refused.
        TrainingError: the model answers what is no finite number.
    """
    graph, signature = load_artifact(artifact, sha256, beside=TRAINING_FILES)
    model, path = OnnxModel(graph, threads=2), prepared / "test.parquet"
    predictions, names = _predictions(model, signature, path, target, slices)
    sliced = [s for name, values in names.items() for s in _slices(name, values, predictions)]
    report = EvaluationReport(
        task=signature.task,
        classes=signature.classes,
        rows=len(predictions.truth),
        metrics=_metrics(predictions),
        slices=tuple(sliced),
        importance=_importance(model, signature, path, predictions),
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
    predictions, _ = _predictions(model, signature, prepared / "test.parquet", target, ())
    if classes is not None and signature.classes is not None:
        predictions = Predictions(predictions.truth, by_class(predictions.scores, signature.classes, classes))
    return _metrics(predictions)


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


def _predictions(
    model: OnnxModel, signature: ModelSignature, path: Path, target: str, slices: Sequence[str]
) -> tuple[Predictions, dict[str, NDArray[Any]]]:
    """The predictions for all rows of a file, and the slice that each row is in, by column."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    total = file.metadata.num_rows
    columns = list(dict.fromkeys([*(column.name for column in signature.inputs), target, *slices]))
    truth, names = list[Any](), {name: list[Any]() for name in slices}
    scores, position, missing = np.empty(0, np.float32), 0, 0
    for batch in file.iter_batches(_batch_rows(file, signature), columns=columns):
        rows: Any = to_frame(batch)
        found = _scores(model, to_model_inputs(rows, signature.inputs), signature)
        if not position:
            scores = np.empty((total, *found.shape[1:]), found.dtype)
        scores[position : position + len(rows)] = found
        position += len(rows)
        missing += int((~np.isfinite(found.reshape(len(rows), -1))).any(axis=1).sum())
        truth.append(rows[target].to_numpy())
        for name in slices:
            names[name].append(_slice_names(rows[name]))
    if missing:
        what = f"The model answers NaN or infinity for {missing:,} of {total:,} test rows"
        raise TrainingError(what, remedy="change train.params, or the network")
    return Predictions(np.concatenate(truth), scores), {name: np.concatenate(parts) for name, parts in names.items()}


def _batch_rows(file: Any, signature: ModelSignature) -> int:
    """How many rows take little memory, as they are read and as the features of the graph, one for each category."""
    stored = sum(file.metadata.row_group(index).total_byte_size for index in range(file.num_row_groups))
    features = sum(MAX_CATEGORIES if column.dtype == "string" else 1 for column in signature.inputs)
    width = max(4 * features, stored // max(file.metadata.num_rows, 1))
    return min(BATCH_ROWS, max(1_024, BATCH_BYTES // width))


def _scores(model: OnnxModel, inputs: dict[str, NDArray[Any]], signature: ModelSignature) -> NDArray[np.float32]:
    outputs = model.predict(inputs)
    return outputs["prediction"][:, 0] if signature.task == "regression" else outputs["probabilities"]


def _slice_names(values: pd.Series) -> NDArray[Any]:
    """What the slice of each row is called: its category, or True or False."""
    import pandas as pd

    is_boolean = pd.api.types.is_numeric_dtype(values)
    names = values.map({1.0: "True", 0.0: "False"}) if is_boolean else values.where(values != "")
    return names.astype(object).fillna(MISSING).to_numpy()


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


def _importance(model: OnnxModel, signature: ModelSignature, path: Path, predictions: Predictions) -> dict[str, float]:
    import pyarrow.parquet as pq

    measure = "rmse" if signature.task == "regression" else "log_loss"
    file = pq.ParquetFile(path)
    size = min(_batch_rows(file, signature), IMPORTANCE_ROWS)
    columns = [column.name for column in signature.inputs]
    parts = list[dict[str, Any]]()
    for batch in file.iter_batches(size, columns=columns):
        parts.append(to_model_inputs(to_frame(batch), signature.inputs))
        if len(parts) * size >= IMPORTANCE_ROWS:
            break
    inputs = {name: np.concatenate([part[name] for part in parts])[:IMPORTANCE_ROWS] for name in columns}
    rows = len(inputs[columns[0]])
    truth = predictions.truth[:rows]
    whole = _metrics(Predictions(truth, predictions.scores[:rows]))[measure]
    generator = np.random.default_rng(0)
    importance = dict[str, float]()
    for name in columns:
        changed = inputs | {name: inputs[name][generator.permutation(rows)]}
        scores = [
            _scores(model, {key: values[start : start + size] for key, values in changed.items()}, signature)
            for start in range(0, rows, size)
        ]
        importance[name] = _metrics(Predictions(truth, np.concatenate(scores)))[measure] - whole
    return importance
