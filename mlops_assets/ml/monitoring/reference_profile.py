"""The reference profile: what a model's inputs and answers were like when it was made, in a few hundred KiB.

It is registered with the model version, so that no drift report reads training data again.
"""

from __future__ import annotations

import glob
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.data.machine import cores, memory_limit_mib
from mlops_assets.ml.data.sources import identifier, quoted, session
from mlops_assets.ml.monitoring.column_profile import (
    MAX_CATEGORIES,
    CategoryProfile,
    ColumnProfile,
    EdgeFinder,
    NumberTally,
    category_profile,
)
from mlops_assets.ml.values import Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from mlops_assets.ml.inference.artifact import ModelSignature

BATCH_ROWS = 65_536
EDGES, LEAST_EDGES, EDGES_IN_ALL = 512, 64, 16_384
PREDICTION, LABEL, SCORE = "prediction", "label", "score"


class ReferenceProfile(Document):
    """The columns of the train part, and the model's answers to the test part."""

    FILE = "reference_profile.json"

    sha256: str
    """The digest of the model's graph."""
    labels: tuple[str, ...] | None
    """The classes as the graph answers them; None for a regression."""
    features: dict[str, ColumnProfile]
    predictions: dict[str, ColumnProfile]
    """`prediction` of a regression; else `label` and `score`, see `score_of`."""
    importance: dict[str, float]
    """Permutation importance, see `evaluate`."""
    metrics: dict[str, float]
    """On the test part."""

    def write(self, folder: Path) -> None:
        """Write the profile into `folder`, without a line for each of its thousands of numbers."""
        (folder / self.FILE).write_text(self.model_dump_json())


def reference_profile(
    prepared: Path,
    signature: ModelSignature,
    scores: NDArray[np.floating[Any]],
    importance: Mapping[str, float],
    metrics: Mapping[str, float],
) -> ReferenceProfile:
    """The profile of train.parquet in `prepared`, read twice in batches, and of the model's `scores` of the test set.

    `scores` are probabilities (n, k), or predictions (n,).
    """
    numbers = [column.name for column in signature.inputs if column.dtype == "float32"]
    texts = [column.name for column in signature.inputs if column.dtype == "string"]
    limit = max(LEAST_EDGES, min(EDGES, EDGES_IN_ALL // max(len(numbers), 1)))
    path = prepared / "train.parquet"
    features: dict[str, Any] = _numbers(path, numbers, limit) | _categories(path, texts)
    labels = signature.class_texts
    if labels is None:
        predictions: dict[str, Any] = {PREDICTION: _array(scores, EDGES)}
    else:
        counts = np.bincount(scores.argmax(axis=1), minlength=len(labels))
        predictions = {LABEL: _labels(labels, counts), SCORE: _array(score_of(scores), EDGES)}
    return ReferenceProfile(
        sha256=signature.sha256,
        labels=labels,
        features={column.name: features[column.name] for column in signature.inputs},
        predictions=predictions,
        importance=dict(importance),
        metrics=dict(metrics),
    )


def score_of(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Of two classes the positive one's probability, of more that of the most probable one."""
    return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities.max(axis=1)


def _numbers(path: Path, names: Sequence[str], limit: int) -> dict[str, ColumnProfile]:
    if not names:
        return {}
    finders = {name: EdgeFinder(limit) for name in names}
    for batch in _batches(path, names):
        for name, values in batch:
            finders[name].add(values)
    tallies = {name: NumberTally(finder.edges()) for name, finder in finders.items()}
    for batch in _batches(path, names):
        for name, values in batch:
            tallies[name].add(values)
    return {name: tally.profile() for name, tally in tallies.items()}


def _batches(path: Path, names: Sequence[str]) -> Iterator[Iterable[tuple[str, NDArray[np.float32]]]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=list(names)):
        yield [(name, as_float32(batch.column(name))) for name in names]


def as_float32(column: Any) -> NDArray[np.float32]:
    """A pyarrow array of numbers or booleans as a model reads it: a missing value is NaN."""
    import pyarrow as pa

    return column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)


def _array(values: NDArray[np.floating[Any]], limit: int) -> ColumnProfile:
    finder, given = EdgeFinder(limit), values.astype(np.float32)
    finder.add(given)
    tally = NumberTally(finder.edges())
    tally.add(given)
    return tally.profile()


def _labels(names: Sequence[str], counts: NDArray[np.int64]) -> CategoryProfile:
    found = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
    return category_profile(found, missing=0, rows=int(counts.sum()), categories=len(found))


def _categories(path: Path, names: Sequence[str]) -> dict[str, ColumnProfile]:
    """By DuckDB, which spills where a column has more values than fit into the memory."""
    if not names:
        return {}
    found = dict[str, ColumnProfile]()
    with tempfile.TemporaryDirectory() as scratch:
        connection = session([path.parent], Path(scratch), memory_limit_mib(), cores())
        rows = f"read_parquet({quoted(glob.escape(str(path)))})"
        for name in names:
            text = f"nullif({identifier(name)}, '')"
            (missing,) = connection.execute(f"SELECT count(*) - count({text}) FROM {rows}").fetchone()
            groups = connection.execute(
                f"SELECT {text}, count(*) AS rows, sum(count(*)) OVER (), count(*) OVER () FROM {rows} "
                f"WHERE {text} IS NOT NULL GROUP BY 1 ORDER BY rows DESC, 1 LIMIT {MAX_CATEGORIES}"
            ).fetchall()
            _, _, total, different = groups[0] if groups else (None, None, 0, 0)
            counts = {value: count for value, count, _, _ in groups}
            found[name] = category_profile(counts, missing, int(total), different)
    return found
