"""What ends a roll-out: figures in, a verdict with its reasons out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.serving.rollout_policy import RolloutPolicy
from mlops_assets.serving.traffic import BOUNDS_MS, Candidate, Observed, Traffic, bound_of
from resources.serving.rollout_guards import distance, judge, judge_champion, share_not_honoured

POLICY = RolloutPolicy()


def times(count: int, ms: float) -> tuple[int, ...]:
    """So many answers within so many milliseconds."""
    counts = [0] * len(BOUNDS_MS)
    counts[bound_of(ms / 1e3)] = count
    return tuple(counts)


def numbers(rows: int, difference: float) -> Observed:
    """Rows whose champion's answers have the standard deviation 1, and the candidate's are so far away."""
    return Observed(mirrored=rows, rows=rows, distance=rows * difference, total=0.0, squares=float(rows))


CASES: dict[str, tuple[Observed, bool, str | None]] = {
    "nothing seen": (Observed(), False, None),
    "nothing seen at the end": (Observed(), True, None),
    "two failures may be the network": (Observed(mirrored=5, mirrored_failed=2), False, None),
    "two failures of five at the end": (Observed(mirrored=5, mirrored_failed=2), True, "2 of 5 requests failed"),
    "three failures": (Observed(handed=50, handed_failed=3), False, "3 of 50 requests failed, at most 1 % may"),
    "as many as may": (Observed(handed=300, handed_failed=3), False, None),
    "few rows differ": (Observed(mirrored=9, rows=9, changed=9), False, None),
    "rows differ at the end": (Observed(mirrored=9, rows=9, changed=9), True, "100 % of 9 rows are answered otherwise"),
    "many rows differ": (Observed(mirrored=60, rows=60, changed=30), False, "50 % of 60 rows are answered otherwise"),
    "some rows differ": (Observed(mirrored=60, rows=60, changed=6), True, None),
    "slow": (Observed(mirrored=200, champion_ms=times(200, 10), candidate_ms=times(200, 40)), False, "99 % within"),
    "slow, a few times": (Observed(mirrored=9, champion_ms=times(9, 10), candidate_ms=times(9, 40)), False, None),
    "slower, within noise": (Observed(champion_ms=times(200, 0.2), candidate_ms=times(200, 3)), True, None),
    "a little slower": (Observed(champion_ms=times(200, 10), candidate_ms=times(200, 14)), True, None),
}


@pytest.mark.parametrize(("observed", "final", "reason"), CASES.values(), ids=CASES)
def test_a_candidate_is_judged_by_what_was_seen(observed: Observed, final: bool, reason: str | None) -> None:
    failed = judge(observed, POLICY, "binary_classification", final=final).failed
    assert len(failed) == (reason is not None)
    assert reason is None or reason in failed[0]


def test_where_labels_have_said_so_answers_may_be_farther_from_the_champions_but_not_any_how() -> None:
    seen = Observed(mirrored=60, rows=60, changed=30)
    assert judge(seen, POLICY, "binary_classification", final=True, max_changed=0.6).failed == ()
    [failed] = judge(seen, POLICY, "binary_classification", final=True, max_changed=0.4).failed
    assert failed == "50 % of 60 rows are answered otherwise, at most 40 % may be"


def test_the_most_frequent_reason_is_told() -> None:
    observed = Observed(handed=9, handed_failed=5, reasons={"it answers 500: broken": 1, "it is late": 4})
    [failed] = judge(observed, POLICY, "regression", final=False).failed
    assert failed == "5 of 9 requests failed, at most 1 % may: it is late"


@pytest.mark.parametrize(("difference", "fails"), [(0.1, False), (0.3, True)])
def test_numbers_are_as_far_apart_as_their_standard_deviations_say(difference: float, fails: bool) -> None:
    observed = numbers(100, difference)
    assert distance(observed, "regression") == pytest.approx(difference)
    assert bool(judge(observed, POLICY, "regression", final=True).failed) == fails


@pytest.mark.parametrize(("other", "apart"), [(7.0, False), (7.1, True)])
def test_a_champion_that_gives_one_number_is_compared_with_that(other: float, apart: bool) -> None:
    observed = Observed(rows=60, total=60 * 7.0, squares=60 * 49.0, distance=60 * abs(other - 7.0))
    assert bool(judge(observed, POLICY, "regression", final=True).failed) == apart


@given(st.integers(0, 500), st.integers(0, 500), st.booleans())
def test_more_failures_are_never_better(failures: int, more: int, final: bool) -> None:
    def fails(count: int) -> bool:
        seen = Observed(mirrored=1_000, mirrored_failed=count)
        return bool(judge(seen, POLICY, "regression", final=final).failed)

    assert fails(failures + more) or not fails(failures)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"asked": 900, "failed": 0}, None),
        ({"asked": 900, "failed": 2}, None),
        ({"asked": 900, "failed": 30}, "30 of 900 requests failed"),
        ({"champion_ms": times(200, 90), "candidate_ms": times(200, 10)}, "the version before within"),
        ({"champion_ms": times(200, 90), "candidate_ms": times(20, 10)}, None),
        ({"champion_ms": times(200, 3), "candidate_ms": times(200, 1)}, None),
        ({"champion_ms": times(200, 90), "candidate_ms": times(200, 80), "mirrored_failed": 50}, None),
    ],
)
def test_a_champion_is_judged_beside_the_one_before(seen: dict[str, Any], reason: str | None) -> None:
    failed = judge_champion(Observed(**seen), POLICY).failed
    assert len(failed) == (reason is not None)
    assert reason is None or reason in failed[0]


def traffic(header: str | None = None, **shares: float) -> Traffic:
    candidate = Candidate(version="2", url="http://candidate", **shares)
    return Traffic(id="a", champion="1", candidate=candidate, header=header)


@pytest.mark.parametrize(
    ("wanted", "observed", "reason"),
    [
        ({"handed": 0.1}, Observed(asked=900, handed=100), None),
        ({"handed": 0.1}, Observed(asked=920, handed=100, handed_failed=20), None),
        ({"handed": 0.1}, Observed(asked=1_000), "it answers 0.0 % of 1,000 requests, not 10 %"),
        ({"handed": 0.1}, Observed(asked=500, handed=500), "it answers 50.0 % of 1,000 requests, not 10 %"),
        ({"handed": 0.1}, Observed(asked=10), None),
        ({"mirrored": 0.5}, Observed(asked=1_000, mirrored=300, dropped=200), None),
        ({"mirrored": 0.5}, Observed(asked=1_000, mirrored=5), "it gets copies of 0.5 % of 1,000 requests"),
        ({"handed": 0.1, "header": "x-user"}, Observed(asked=1_000), None),
    ],
)
def test_shares_that_servers_do_not_keep_are_noticed(wanted: Any, observed: Observed, reason: str | None) -> None:
    found = share_not_honoured(observed, traffic(**wanted))
    assert (found is None) == (reason is None)
    assert reason is None or (found is not None and reason in found)


def drawn(generator: np.random.Generator, count: int, median_ms: float) -> tuple[int, ...]:
    """Times as a busy machine has them: one in a hundred takes ten times as long as usual, or longer."""
    ms = generator.lognormal(np.log(median_ms), 1.0, count)
    buckets = np.searchsorted(BOUNDS_MS, ms).clip(max=len(BOUNDS_MS) - 1)
    return tuple(np.bincount(buckets, minlength=len(BOUNDS_MS)).tolist())


@pytest.mark.parametrize("count", [100, 200, 1_000, 10_000])
def test_chance_makes_no_version_slow_and_saves_none_that_is(count: int) -> None:
    generator, policy = np.random.default_rng(count), RolloutPolicy()
    found = {"same": 0, "slow": 0}
    for _ in range(300):
        champion = drawn(generator, count, 10)
        for name, median_ms in (("same", 10), ("slow", 80)):
            times = drawn(generator, count, median_ms)
            observed = Observed(mirrored=count, champion_ms=champion, candidate_ms=times)
            found[name] += bool(judge(observed, policy, "regression", final=False).failed)
            after = Observed(asked=count, champion_ms=times, candidate_ms=champion)
            found[name] += bool(judge_champion(after, policy).failed)
    assert found["same"] <= 3
    assert found["slow"] >= 597


@pytest.mark.parametrize("of_regression", [{"distance": math.nan}, {"distance": math.inf}, {"total": math.nan}])
def test_figures_that_are_no_numbers_let_nothing_through(of_regression: dict[str, float]) -> None:
    seen = numbers(60, 0.01).model_copy(update=of_regression)
    assert judge(seen, POLICY, "regression", final=True).failed
