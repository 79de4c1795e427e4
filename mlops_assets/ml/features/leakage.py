"""Finds features that give the target away: the target itself, or something it can be computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from mlops_assets.ml.inference.onnx_model import to_frame
from mlops_assets.ml.values import Document, Value

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeaturePlan

SAMPLE_ROWS = 100_000
ROWS_OF_CLASS = 1_000  # of a rare class, beyond those of the sample
FEWEST_ROWS, FEWEST_OF_CLASS = 50, 10
LEAVES_OF_REGRESSION = 64


class LeakageRule(Value):
    """When a feature counts as giving the target away."""

    threshold: float = Field(
        default=0.9995,
        gt=0,
        le=1,
        description="A feature that alone gets so far from guessing (0) to knowing (1) leaks",
    )
    allow: tuple[str, ...] = Field(default=(), description="Features that may, as they are known before the target is")


class Leakage(Document):
    """How far each feature alone gets from guessing the target (0) to knowing it (1), where that can be judged."""

    FILE = "leakage.json"

    scores: dict[str, float]

    def leaks(self, rule: LeakageRule) -> tuple[str, ...]:
        """A sentence for each feature that gives the target away by this rule."""
        return tuple(
            f"{feature} alone gets {score:.2%} of the way from guessing the target to knowing it; it is the target or "
            f"was computed from it. Remove it from features.use, or name it in features.leakage.allow when it is known "
            "before the target is."
            for feature, score in self.scores.items()
            if score >= rule.threshold and feature not in rule.allow
        )


def find_leakage(prepared: Path, plan: FeaturePlan) -> Leakage:
    """Judge each feature alone on a sample of train rows, with up to 1,000 rows of each class however rare.

    It is the input of a decision tree of at most twice as many leaves as there are classes (64 for regression), on
    rows of which half are held out. The score of a classification is the balanced accuracy, adjusted for chance, so
    that to answer the most frequent class always is worth nothing; that of a regression is the R2 of the target's
    ranks, so that a few large values do not decide, beside what the tree reaches with the target itself as its input.
    Classes with fewer than 10 rows are left out.
    """
    rows: Any = _sample(prepared / "train.parquet", plan)
    target = rows[plan.target.column].to_numpy()
    if plan.task == "regression":
        target = rows[plan.target.column].rank().to_numpy()
    else:
        judged = np.isin(target, np.flatnonzero(np.bincount(target) >= FEWEST_OF_CLASS))
        rows, target = rows[judged], target[judged]
    if len(rows) < FEWEST_ROWS or len(np.unique(target)) < 2:
        return Leakage(scores={})
    scores = {c.name: _score(rows[c.name], c.type == "category", target, plan) for c in plan.use}
    return Leakage(scores={name: score for name, score in scores.items() if np.isfinite(score)})


def _sample(path: Path, plan: FeaturePlan) -> pd.DataFrame:
    """The first rows, and those of rare classes from behind them."""
    import pandas as pd
    import pyarrow.parquet as pq

    columns = [*(column.name for column in plan.use), plan.target.column]
    batches = pq.ParquetFile(path).iter_batches(SAMPLE_ROWS, columns=columns)
    frames: list[Any] = [to_frame(next(batches))]
    if plan.classes is None:
        return frames[0]
    missing = ROWS_OF_CLASS - np.bincount(frames[0][plan.target.column], minlength=len(plan.classes))
    for batch in batches:
        if (missing <= 0).all():
            break
        frame: Any = to_frame(batch)
        nth = frame.groupby(plan.target.column).cumcount().to_numpy()
        frames.append(frame[nth < missing[frame[plan.target.column]]])
        missing -= np.bincount(frames[-1][plan.target.column], minlength=len(missing))
    return pd.concat(frames, ignore_index=True)


def _score(values: Any, is_category: bool, target: NDArray[Any], plan: FeaturePlan) -> float:
    from sklearn.metrics import balanced_accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    is_regression = plan.task == "regression"
    fitted: Any
    fitted, held_out = train_test_split(
        np.arange(len(target)), test_size=0.5, random_state=0, stratify=None if is_regression else target
    )
    if is_category:
        codes = _by_mean_target(values, target, fitted)
    else:
        # Of a regression by rank, so that the target's logarithm is as good a copy; that a value is missing tells, too
        codes = (values.rank() if is_regression else values).to_numpy(dtype=np.float64, na_value=np.nan)
    x = codes.reshape(-1, 1)
    if is_regression:
        if np.ptp(target[held_out]) == 0:
            return float("nan")

        def r2(x: NDArray[Any]) -> float:
            tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES_OF_REGRESSION, random_state=0)
            return float(r2_score(target[held_out], tree.fit(x[fitted], target[fitted]).predict(x[held_out])))

        knowing = r2(target.reshape(-1, 1))
        return r2(x) / knowing if knowing > 0 else float("nan")
    leaves = 2 * len(plan.classes or (0, 1))
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=0)
    answers = tree.fit(x[fitted], target[fitted]).predict(x[held_out])
    return float(balanced_accuracy_score(target[held_out], answers, adjusted=True))


def _by_mean_target(values: Any, target: NDArray[Any], fitted: NDArray[Any]) -> NDArray[np.float64]:
    """Each category as the mean target of its rows among those that are fitted."""
    import pandas as pd

    means = pd.Series(target[fitted]).groupby(values.iloc[fitted].to_numpy()).mean()
    return values.map(means).astype(float).fillna(float(np.mean(target[fitted]))).to_numpy(dtype=np.float64)
