"""What ends a roll-out, told from what servers have counted: pure functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlops_assets.ml.values import Task, Value
from mlops_assets.serving.traffic import BOUNDS_MS, percentile_ms

if TYPE_CHECKING:
    from mlops_assets.serving.rollout_policy import RolloutPolicy
    from mlops_assets.serving.traffic import Observed, Traffic

BLIPS = 3  # fewer failures may be those of a network
FEW_ROWS, FEW_TIMES = 50, 100  # before so many have been compared, their figures say little
NOISE_MS = 5.0
TOLERANCE = 0.02  # of a share, beside five standard deviations of chance


class Judgement(Value):
    """What was measured, and what of it is beyond what the policy allows; empty where nothing is."""

    measured: str
    failed: tuple[str, ...]


def judge(
    observed: Observed, policy: RolloutPolicy, task: Task, *, final: bool, max_changed: float | None = None
) -> Judgement:
    """Judge a candidate by the requests it was asked; before the end, where so few say little, nothing is failed.

    `max_changed` is how far its answers may be from the champion's, where labels have said that it may be farther than
    the policy has it.

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
        measured.append(_distance_in_words(observed, task))
        allowed = policy.max_changed if max_changed is None else max_changed
        near_enough = distance(observed, task) <= allowed  # which what is no number never is
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
    return Judgement(measured="; ".join(measured), failed=tuple(failed))


def _is_slower(times: tuple[int, ...], other_ms: float, ratio: float) -> bool:
    """Whether more than one of a hundred are beyond so many times the other's 99th percentile, and more than by chance.

    Of a few hundred times the 99th percentile is that of two or three of them, which a busy machine decides.
    """
    limit, asked = max(ratio * other_ms, other_ms + NOISE_MS), sum(times)
    beyond = sum(count for above, count in zip((0.0, *BOUNDS_MS), times, strict=False) if above >= limit)
    return beyond > 0.01 * asked + 5 * math.sqrt(0.01 * asked)


def share_not_honoured(observed: Observed, traffic: Traffic) -> str | None:
    """Why the servers do not share requests as they were told, or None; by a header, users come in lumps."""
    if traffic.header is not None:
        return None
    all_of_them = observed.asked + observed.handed - observed.handed_failed
    for wanted, found, what in (
        (traffic.candidate.handed, observed.handed, "answers"),
        (traffic.candidate.mirrored, observed.mirrored + observed.dropped, "gets copies of"),
    ):
        if not wanted or not all_of_them:
            continue
        chance = 5 * math.sqrt(wanted * (1 - wanted) / all_of_them)
        if abs(found / all_of_them - wanted) > chance + TOLERANCE:
            return f"it {what} {100 * found / all_of_them:.1f} % of {all_of_them:,} requests, not {100 * wanted:g} %"
    return None


def distance(observed: Observed, task: Task) -> float:
    """How far the candidate's answers are from the champion's: the share of labels that differ; of numbers their mean
    difference in standard deviations of the champion's, infinity where that gives one number alone and it differs.
    """
    if not observed.rows:
        return 0.0
    if task != "regression":
        return observed.changed / observed.rows
    mean = observed.total / observed.rows
    deviation = math.sqrt(max(observed.squares / observed.rows - mean**2, 0.0))
    difference = observed.distance / observed.rows
    if deviation > 1e-6 * max(abs(mean), 1e-30):
        return difference / deviation
    return 0.0 if difference <= 1e-6 * abs(mean) else math.inf


def _distance_in_words(observed: Observed, task: Task) -> str:
    return (
        f"{_share(distance(observed, task), task)} of {observed.rows:,} rows are answered otherwise"
        if (task != "regression")
        else f"{observed.rows:,} rows are {_share(distance(observed, task), task)} apart"
    )


def _share(value: float, task: Task) -> str:
    return f"{100 * value:.3g} %" if task != "regression" else f"{value:.3g} standard deviations"
