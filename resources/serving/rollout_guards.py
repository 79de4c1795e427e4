"""What ends a roll-out, told from what servers have counted: pure functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_assets.ml.values import Task, Value
from mlops_assets.serving.traffic import BOUNDS_MS, NOTHING_SEEN, different_keys, percentile_ms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_assets.serving.rollout_policy import RolloutPolicy
    from mlops_assets.serving.traffic import Observed, Traffic

BLIPS = 3  # fewer failures may be those of a network
FEW_ROWS, FEW_TIMES = 50, 100  # before so many have been compared, their figures say little
NOISE_MS = 5.0
TOLERANCE = 0.02  # of a share, beside five standard deviations of chance
SURELY = 3  # standard errors by which a distance is beyond what is allowed, where more is to come
FARTHEST = 20  # spreads that a difference counts at most, so that a few do not decide
USUAL = 0.9  # of the champion's distances from its median; those of the rest count no more
OF_NORMAL = 1.3227  # standard deviations that the mean of such distances is of normal numbers
FEW_KEYS = 50  # requests of so few different ids or users, shares are those of chance


class Judgement(Value):
    """What was measured, and what of it is beyond what the policy allows; empty where nothing is."""

    measured: str
    failed: tuple[str, ...]


class Distance(NamedTuple):
    """How far apart answers are, and the standard error of that, by how many requests were compared."""

    value: float
    chance: float = 0.0

    @property
    def surely(self) -> float:
        """What it is at least, but for chance."""
        return self.value - SURELY * self.chance

    @property
    def perhaps(self) -> float:
        """What it is at most, but for chance."""
        return self.value + SURELY * self.chance


def judge(
    observed: Observed,
    policy: RolloutPolicy,
    task: Task,
    *,
    final: bool,
    max_changed: float | None = None,
    before: Observed = NOTHING_SEEN,
) -> Judgement:
    """Judge a candidate by the requests it was asked; before the end, where so few say little, nothing is failed.

    `max_changed` is how far its answers may be from the champion's, where labels have said that it may be farther than
    the policy has it; then, and before the end, it is beyond only where chance does not explain it. `before` was
    compared earlier in the same roll-out.

    >>> from mlops_assets.serving.rollout_policy import RolloutPolicy
    >>> from mlops_assets.serving.traffic import Observed
    >>> judge(Observed(mirrored=90, mirrored_failed=9), RolloutPolicy(), "regression", final=False).failed
    ('9 of 90 requests failed, at most 1 % may',)
    """
    measured, failed = list[str](), list[str]()
    asked = observed.handed + observed.mirrored
    faults = observed.handed_failed + observed.mirrored_failed
    measured.append(f"{faults} of {asked:,} requests failed")
    if faults > policy.max_error_rate * asked and (final or faults >= BLIPS):
        reason = max(observed.reasons, key=lambda name: observed.reasons[name], default="")
        why = f": {reason}" if reason else ""
        failed.append(f"{measured[-1]}, at most {100 * policy.max_error_rate:g} % may{why}")
    if observed.rows:
        apart = distance(observed, task, before)
        measured.append(_distance_in_words(observed, apart, task))
        allowed = policy.max_changed if max_changed is None else max_changed
        # What is no number never is
        near_enough = (apart.value if final and max_changed is None else apart.surely) <= allowed
        if not near_enough and (final or observed.rows >= FEW_ROWS):
            failed.append(f"{measured[-1]}, at most {_share(allowed, task)} may be")
    champion, candidate = (percentile_ms(ms, 0.99) for ms in (observed.champion_ms, observed.candidate_ms))
    if champion and candidate:
        measured.append(f"99 % within {candidate:.2g} ms, the champion's within {champion:.2g} ms")
        slow = _is_slower(observed.candidate_ms, champion, policy.max_latency_ratio)
        if slow and (final or min(sum(observed.champion_ms), sum(observed.candidate_ms)) >= FEW_TIMES):
            failed.append(f"{measured[-1]}; {policy.max_latency_ratio:g} times that are allowed")
    return Judgement(measured="; ".join(measured), failed=tuple(failed))


def judge_champion(observed: Observed, policy: RolloutPolicy) -> Judgement:
    """Judge a version that has taken over by its own faults, and by its time beside that of the version before.

    That one gets copies, so that both times are of the same moments and machines.
    """
    measured, failed = [f"{observed.failed} of {observed.asked:,} requests failed"], list[str]()
    if observed.failed > policy.max_error_rate * observed.asked and observed.failed >= BLIPS:
        failed.append(f"{measured[-1]}, at most {100 * policy.max_error_rate:g} % may")
    now, then = (percentile_ms(ms, 0.99) for ms in (observed.champion_ms, observed.candidate_ms))
    if now and then:
        measured.append(f"99 % within {now:.2g} ms, the version before within {then:.2g} ms")
        few = min(sum(observed.champion_ms), sum(observed.candidate_ms)) < FEW_TIMES
        if not few and _is_slower(observed.champion_ms, then, policy.max_latency_ratio):
            failed.append(f"{measured[-1]}; {policy.max_latency_ratio:g} times that are allowed")
    if observed.mirrored_failed:
        measured.append(f"of {observed.mirrored:,} copies the version before failed {observed.mirrored_failed:,}")
    return Judgement(measured="; ".join(measured), failed=tuple(failed))


def _is_slower(times: tuple[int, ...], other_ms: float, ratio: float) -> bool:
    """Whether more than one of a hundred are beyond so many times the other's 99th percentile, and more than by chance.

    Of a few hundred times the 99th percentile is that of two or three of them, which a busy machine decides.
    """
    limit, asked = max(ratio * other_ms, other_ms + NOISE_MS), sum(times)
    beyond = sum(count for above, count in zip((0.0, *BOUNDS_MS), times, strict=False) if above >= limit)
    return beyond > 0.01 * asked + 5 * math.sqrt(0.01 * asked)


def share_not_honoured(observed: Observed, traffic: Traffic) -> str | None:
    """Why the servers do not share requests as they were told, or None. Requests of one id or user come in one lump,
    which lies on one side: of few different ones the shares are any.
    """
    all_of_them = observed.asked + observed.handed - observed.handed_failed
    if not all_of_them or (traffic.header is not None and not observed.keys):
        return None  # a server of another release does not say how many users there are
    different = min(different_keys(observed.keys), all_of_them)
    largest = max(observed.keys, default=0) / max(sum(observed.keys), 1)
    for wanted, found, what in (
        (traffic.candidate.handed, observed.handed, "answers"),
        (traffic.candidate.mirrored, observed.mirrored + observed.dropped, "gets copies of"),
    ):
        chance = 5 * math.sqrt(wanted * (1 - wanted) / different) + largest
        if wanted and abs(found / all_of_them - wanted) > chance + TOLERANCE:
            return f"it {what} {100 * found / all_of_them:.1f} % of {all_of_them:,} requests, not {100 * wanted:g} %"
    return None


def few_keys(observed: Observed, traffic: Traffic) -> str | None:
    """Why the candidate has another share than it was to have, or None: the requests are nearly all the same ones."""
    different = different_keys(observed.keys)
    if sum(observed.keys) < FEW_TIMES or different >= FEW_KEYS:
        return None
    what = f"values of {traffic.header}" if traffic.header else "ids"
    return (
        f"requests come with few different {what}, as many as {max(round(different), 1)}, by which they are dealt out"
    )


def distance(observed: Observed, task: Task, before: Observed = NOTHING_SEEN) -> Distance:
    """How far the candidate's answers are from the champion's: the share of labels that differ; of numbers their mean
    difference in spreads of the champion's, infinity where that gives one number alone and it differs, or where nobody
    says what the numbers are.

    A spread is what a standard deviation is of normal numbers, and is not decided by the farthest ones: the mean
    distance from the median, of which the farthest tenth count as the nearest of them. It is that of all answers that
    are known of the champion, so that it is the same one in the whole roll-out, but for chance. A difference counts at
    most FARTHEST spreads.
    """
    if not observed.rows:
        return Distance(0.0)
    requests = max(min(observed.rows, observed.mirrored - observed.mirrored_failed), 1)  # rows of one are alike
    if task != "regression":
        share = observed.changed / observed.rows
        return Distance(share, math.sqrt(share * (1 - share) / requests))
    if not observed.sample:
        return Distance(math.inf)
    import numpy as np

    champion, candidate = np.array(observed.pairs).T
    differences = np.abs(champion - candidate)
    known = np.array((before + observed).pairs)[:, 0]
    spread = _spread(known)
    if spread.value <= 1e-6 * (middle := abs(float(np.median(known)))):
        return Distance(0.0 if differences.mean() <= 1e-6 * middle else math.inf)
    counted = np.minimum(differences, max(FARTHEST * spread.value, spread.edge)) / spread.value
    value = float(counted.mean())
    return Distance(value, math.hypot(float(counted.std()) / math.sqrt(requests), value * spread.chance))


class _Spread(NamedTuple):
    value: float = 0.0
    chance: float = 0.0
    edge: float = 0.0


def _spread(numbers: NDArray[Any]) -> _Spread:
    """The spread of numbers, its standard error as a share of it, and the distance from which on none counts more.

    That is one of those that are not 0: of what is 0 nearly always, the other numbers are all that it spreads.
    """
    import numpy as np

    away = np.abs(numbers - np.median(numbers))
    if not away.any():
        return _Spread()
    edge = float(np.quantile(away[away != 0], USUAL))
    usual = np.minimum(away, edge)
    mean = float(usual.mean())
    return _Spread(OF_NORMAL * mean, float(usual.std()) / mean / math.sqrt(len(usual)), edge)


def _distance_in_words(observed: Observed, apart: Distance, task: Task) -> str:
    if task != "regression":
        return f"{_share(apart.value, task)} of {observed.rows:,} rows are answered otherwise"
    if not observed.sample:
        return f"how far {observed.rows:,} rows are apart is not known, for servers of another release follow"
    return f"{observed.rows:,} rows are {_share(apart.value, task)} apart"


def _share(value: float, task: Task) -> str:
    return f"{100 * value:.3g} %" if task != "regression" else f"{value:.3g} spreads"
