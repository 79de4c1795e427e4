"""Finds features that give the target away: the target itself, or something it can be computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.inference.onnx_model import to_frame
from mlops_assets.ml.values import Document, Value

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeaturePlan

SAMPLE_ROWS = 100_000
PURITY = 0.9995


class Leak(Value):
    """A feature that alone decides the target."""

    feature: str
    score: float

    @property
    def message(self) -> str:
        """What is wrong and what to do."""
        return (
            f"{self.feature} alone explains {self.score:.2%} of the target; it is the target or was computed from it. "
            "Remove it from features.use."
        )


class Leakage(Document):
    """All features that give the target away."""

    FILE = "leakage.json"

    leaks: tuple[Leak, ...]


def find_leakage(prepared: Path, plan: FeaturePlan) -> Leakage:
    """Features of which one alone decides the target in a sample of train rows.

    Each is the input of a decision tree of at most twice as many leaves as there are classes (64 for regression), on
    rows of which half are held out; accuracy, or R2, must stay below 0.9995.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(prepared / "train.parquet")
    columns = [*(column.name for column in plan.use), plan.target.column]
    rows = to_frame(next(file.iter_batches(SAMPLE_ROWS, columns=columns)))
    target = rows[plan.target.column].to_numpy()
    if len(rows) < 50:
        return Leakage(leaks=())
    found = list[Leak]()
    for column in plan.use:
        score = _score(rows[column.name], column.type == "category", target, plan)
        if score >= PURITY:
            found.append(Leak(feature=column.name, score=score))
    return Leakage(leaks=tuple(found))


def _score(values: Any, is_category: bool, target: NDArray[Any], plan: FeaturePlan) -> float:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    half = len(target) // 2
    if is_category:
        codes = _by_mean_target(values, target, half)
    else:
        codes = values.fillna(values.median()).to_numpy(dtype=np.float64)
    x = codes.reshape(-1, 1)
    if plan.task == "regression":
        tree = DecisionTreeRegressor(max_leaf_nodes=64, random_state=0)
    else:
        tree = DecisionTreeClassifier(max_leaf_nodes=2 * len(plan.classes or (0, 1)), random_state=0)
    tree.fit(x[:half], target[:half])
    return float(tree.score(x[half:], target[half:]))


def _by_mean_target(values: Any, target: NDArray[Any], half: int) -> NDArray[np.float64]:
    """Each category as the mean target of its rows in the first half."""
    import pandas as pd

    means = pd.Series(target[:half]).groupby(values.iloc[:half].to_numpy()).mean()
    return values.map(means).fillna(float(np.mean(target[:half]))).to_numpy(dtype=np.float64)
