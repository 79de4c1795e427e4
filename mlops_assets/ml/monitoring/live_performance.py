"""How good a version's answers were, as far as labels have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.evaluation.metrics import classification_metrics, regression_metrics
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence


class LivePerformance(Value):
    """The metrics of a window's rows with a label, and how many have one; the others may be of another kind."""

    rows: int
    labelled: int
    metrics: dict[str, float]
    """Of the labelled rows, or of about a million of them; none where no label has come."""

    @property
    def unlabelled_share(self) -> float:
        """The share of the window's rows whose label has not come."""
        return 1 - self.labelled / self.rows if self.rows else 1.0


def live_performance(truths: Any, labels: Sequence[str] | None, rows: int, labelled: int) -> LivePerformance:
    """Metrics of a pyarrow table of label (text) and answer; `labels` are the classes as the graph answers them.

    Labels that are none of the classes, as they may lie in tables of others or be of another version's, do not count,
    and neither do answers that are no finite numbers, as models may give to extreme values. `labelled` are all labels
    that came, of which there may be more than `truths` has.
    """
    told, answers = truths["label"].to_pylist(), truths["answer"].combine_chunks()
    if labels is None:
        truth = np.array([_number(text) for text in told], np.float64)
        scores = answers.to_numpy(zero_copy_only=False)
        kept = np.isfinite(truth) & np.isfinite(scores)
    else:
        places = {name: index for index, name in enumerate(labels)}
        truth = np.array([places.get(text, -1) for text in told])
        scores = answers.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(labels))
        kept = (truth >= 0) & np.isfinite(scores).all(axis=1)
    if not kept.any():
        return LivePerformance(rows=rows, labelled=0, metrics={})
    metrics = (regression_metrics if labels is None else classification_metrics)(truth[kept], scores[kept])
    return LivePerformance(rows=rows, labelled=round(labelled * kept.mean()), metrics=metrics)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
