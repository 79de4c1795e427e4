"""What Prometheus sees of answers: how often each label is given, and how scores are distributed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import REGISTRY
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

LABELS, OTHERS = 20, "others"
ANSWERS = CounterMetric("model_answers_total", "Rows that were answered, by label", ["model", "label"])
PROBABILITIES = [tenths / 10 for tenths in range(11)]
_UPWARDS = [step * 10.0**power for power in range(-4, 10) for step in (1, 2, 5)]
PREDICTIONS = [*(-edge for edge in reversed(_UPWARDS)), 0.0, *_UPWARDS]


class Distribution:
    """Values that were counted between edges."""

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges, self.total = edges, 0.0
        self.counts = [0] * (len(edges) + 1)
        self._lock = Lock()

    def add(self, values: NDArray[Any]) -> None:
        """Count values, shape (rows,); what is no number is left out."""
        if len(values) == 1:  # most requests, which need not wait for what pays for many rows
            value = float(values[0])
            if math.isfinite(value):
                with self._lock:
                    self.counts[bisect_left(self.edges, value)] += 1
                    self.total += value
            return
        known = values[np.isfinite(values)].astype(np.float64)
        counted = np.bincount(np.searchsorted(self.edges, known), minlength=len(self.counts))
        with self._lock:
            self.counts = [before + more for before, more in zip(self.counts, counted.tolist(), strict=True)]
            self.total += float(known.sum())


class AnswerScores(Collector):
    """The histogram `model_answer_score` of each model.

    It is one of rows, of which a request may have 100,000, so that they are counted at once and not one by one.
    """

    def __init__(self) -> None:
        self._models: dict[str, Distribution] = {}

    def add(self, model: str, values: NDArray[Any], edges: Sequence[float]) -> None:
        """Count scores of a model; where it has become one of another task, the count begins anew."""
        found = self._models.get(model)
        if found is None or found.edges is not edges:
            found = self._models[model] = Distribution(edges)
        found.add(values)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """As Prometheus wants it: rows up to each edge, in sum."""
        about = "Rows by score: of two classes the second one's probability, of more the highest, else the prediction"
        family = HistogramMetricFamily("model_answer_score", about, labels=["model"])
        for model, found in [*self._models.items()]:
            names = [*map(floatToGoString, found.edges), "+Inf"]
            family.add_metric([model], [*zip(names, accumulate(found.counts), strict=True)], found.total)
        yield family


SCORES = AnswerScores()
REGISTRY.register(SCORES)


def observe_answers(model: str, outputs: Mapping[str, NDArray[Any]], classes: Sequence[str] | None) -> None:
    """Count a request's answers, which are what the graph gives; `classes` are their texts, None for a regression.

    Of a model with more than 20 classes, those after the first 20 are counted together.
    """
    if classes is None:
        SCORES.add(model, outputs["prediction"][:, 0], PREDICTIONS)
        return
    probabilities = outputs["probabilities"]
    scores = probabilities[:, 1] if len(classes) == 2 else probabilities.max(axis=1)
    SCORES.add(model, scores, PROBABILITIES)
    named, labels = classes[:LABELS], outputs["label"].tolist()
    for label, rows in (Counter(labels) if len(labels) > 1 else dict.fromkeys(labels, 1)).items():
        text = str(label)
        _answers(model, text if text in named else OTHERS).inc(rows)


@lru_cache(4_096)
def _answers(model: str, label: str) -> Any:
    return ANSWERS.labels(model, label)
