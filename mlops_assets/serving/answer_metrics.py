"""What Prometheus sees of answers: how often each label is given, and how scores are distributed."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from mlops_assets.serving.tally import Distribution, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from prometheus_client import Metric

LABELS, OTHERS = 20, "others"
PROBABILITIES = [tenths / 10 for tenths in range(11)]
_UPWARDS = [step * 10.0**power for power in range(-4, 10) for step in (1, 2, 5)]
PREDICTIONS = [*(-edge for edge in reversed(_UPWARDS)), 0.0, *_UPWARDS]


class Answers(NamedTuple):
    """The answers of a request: a score for each row, and a label where the model has `classes`."""

    model: str
    classes: Sequence[str] | None
    scores: NDArray[Any]
    labels: Sequence[Any]


class AnswerMetrics(Tally[Answers]):
    """`model_answers_total` and the histogram `model_answer_score`, both of rows."""

    def __init__(self) -> None:
        super().__init__()
        self._scores = dict[str, Distribution]()
        self._labels = Counter[tuple[str, str]]()

    def count(self, seen: Sequence[Answers]) -> None:
        """Count scores and labels; where a model has become one of another task, its scores begin anew."""
        scores: defaultdict[tuple[str, bool], list[NDArray[Any]]] = defaultdict(list)
        for model, classes, given, labels in seen:
            scores[model, classes is None].append(given)
            if classes is not None:
                named = classes[:LABELS]
                # A request may have 100,000 rows, though most have one
                for label, rows in (Counter(labels) if len(labels) > 1 else dict.fromkeys(labels, 1)).items():
                    text = str(label)
                    self._labels[model, text if text in named else OTHERS] += rows
        for (model, is_regression), values in scores.items():
            edges = PREDICTIONS if is_regression else PROBABILITIES
            found = self._scores.get(model)
            if found is None or found.edges is not edges:
                found = self._scores[model] = Distribution(edges)
            found.add(np.concatenate(values))

    def families(self) -> Iterable[Metric]:
        """As Prometheus wants it."""
        rows = CounterMetricFamily("model_answers", "Rows that were answered, by label", labels=["model", "label"])
        for labels, count in self._labels.items():
            rows.add_metric(labels, count)
        yield rows
        about = "Rows by score: of two classes the second one's probability, of more the highest, else the prediction"
        scores = HistogramMetricFamily("model_answer_score", about, labels=["model"])
        for model, found in self._scores.items():
            found.add_to(scores, model)
        yield scores


ANSWERS = AnswerMetrics()
REGISTRY.register(ANSWERS)


def observe_answers(model: str, outputs: Mapping[str, NDArray[Any]], classes: Sequence[str] | None) -> None:
    """Count a request's answers, which are what the graph gives; `classes` are their texts, None for a regression.

    Of a model with more than 20 classes, those after the first 20 are counted together.
    """
    if classes is None:
        values = outputs["prediction"][:, 0]
        ANSWERS.add(Answers(model, None, values, ()), len(values))
        return
    probabilities = outputs["probabilities"]
    scores = probabilities[:, 1] if len(classes) == 2 else probabilities.max(axis=1)
    labels = outputs["label"].tolist()
    ANSWERS.add(Answers(model, classes, scores, labels), len(labels))
