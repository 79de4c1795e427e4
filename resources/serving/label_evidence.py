"""Which of two versions is right by the labels of rows that both have answered: a pure function, and its verdict.

A champion that has become wrong is not to be compared with: what mends it answers otherwise by design. Labels tell.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from mlops_assets.ml.values import Task, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlops_assets.serving.answers_compared import Score

FEW_REQUESTS = 50  # before so many have labels, they may be of a kind of their own
CHANCE = 0.01  # of taking one for better that is not


class LabelledRow(NamedTuple):
    """A row with its label, a text as in the log, and what both versions have answered."""

    request_id: str
    label: str
    champion: Score
    candidate: Score


class LabelEvidence(Value):
    """What labels say of a candidate beside the champion.

    Of the `requests` with labels it was right more often, or nearer, in `better` and less often in `worse`; `chance` is
    that of so many better ones where neither version is. `champion` and `candidate` are their figures over all rows:
    the mean over the classes of how many of its rows were answered with it, or for numbers the mean absolute error.
    """

    task: Task
    requests: int
    better: int
    worse: int
    chance: float
    champion: float
    candidate: float

    @property
    def enough(self) -> bool:
        """Whether there are enough labels to judge by."""
        return self.requests >= FEW_REQUESTS

    @property
    def mends(self) -> bool:
        """Whether the candidate is better by labels, and more than chance would have it.

        Its figure must be better, too: who never answers a rare class is right more often than who tries, and who is
        a little nearer mostly may be far off at times.
        """
        gain = self.champion - self.candidate if self.task == "regression" else self.candidate - self.champion
        return self.enough and self.chance <= CHANCE and gain > 0

    @property
    def in_words(self) -> str:
        """What was found."""
        if not self.enough:
            return f"{self.requests} requests of them have labels, too few to judge by; {FEW_REQUESTS} are needed"
        right, figure = ("nearer", "mean error") if self.task == "regression" else ("right more often", "mean recall")
        return (
            f"by the labels of {self.requests:,} requests it is {right} in {self.better:,} and less in {self.worse:,} "
            f"(chance {self.chance:.1g}), its {figure} {self.candidate:.3g} and the champion's {self.champion:.3g}"
        )


def label_evidence(rows: Iterable[LabelledRow], task: Task) -> LabelEvidence:
    """Compare two versions by labels, with the exact sign test of requests (of labels, McNemar's).

    A request counts once, for the better one of its rows: rows of one request are seldom independent.
    """
    by_request = defaultdict[str, list[LabelledRow]](list)
    for row in rows:
        if task != "regression" or _is_of_numbers(row):  # labels of a version before may be of another task
            by_request[row.request_id].append(row)
    gains = [sum(_gain(row, task) for row in of_one) for of_one in by_request.values()]
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    flat = [row for of_one in by_request.values() for row in of_one]
    return LabelEvidence(
        task=task,
        requests=len(by_request),
        better=better,
        worse=worse,
        chance=sign_test(better, worse),
        champion=_figure([(row.label, row.champion) for row in flat], task),
        candidate=_figure([(row.label, row.candidate) for row in flat], task),
    )


def sign_test(better: int, worse: int) -> float:
    """The chance of at least so many better ones among those that differ, where each is as likely as the other.

    >>> sign_test(0, 0), sign_test(1, 1), sign_test(10, 0) == 0.5**10
    (1.0, 0.75, True)
    """
    pairs = better + worse
    ways = number = 1  # to choose all of the pairs; then of all but one, but two, ...
    for left in range(worse):
        number = number * (pairs - left) // (left + 1)
        ways += number
    return ways / (1 << pairs)


def _is_of_numbers(row: LabelledRow) -> bool:
    try:
        numbers = (float(row.label), row.champion[1], row.candidate[1])
    except ValueError:
        return False
    return all(number is not None and math.isfinite(number) for number in numbers)


def _gain(row: LabelledRow, task: Task) -> float:
    """How much nearer to its label the candidate's answer is."""
    if task != "regression":
        return (row.candidate[0] == row.label) - (row.champion[0] == row.label)
    return _error(row.label, row.champion) - _error(row.label, row.candidate)


def _error(label: str, score: Score) -> float:
    assert score[1] is not None
    return abs(float(label) - score[1])


def _figure(answers: Sequence[tuple[str, Score]], task: Task) -> float:
    if not answers:
        return 0.0
    if task == "regression":
        return sum(_error(label, score) for label, score in answers) / len(answers)
    of_class = defaultdict[str, list[bool]](list)
    for label, score in answers:
        of_class[label].append(score[0] == label)
    return sum(sum(right) / len(right) for right in of_class.values()) / len(of_class)
