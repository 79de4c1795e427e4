"""What ends a roll-out: figures in, a verdict with its reasons out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.serving.answers_compared import compared
from mlops_assets.serving.rollout_policy import RolloutPolicy
from mlops_assets.serving.traffic import (
    BOUNDS_MS,
    KEYS,
    NOTHING_SEEN,
    Candidate,
    Observed,
    Traffic,
    bound_of,
    bucket_of,
    lies_within,
)
from resources.serving.rollout import MARGIN
from resources.serving.rollout_guards import distance, few_keys, judge, judge_champion, share_not_honoured

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = RolloutPolicy()


def times(count: int, ms: float) -> tuple[int, ...]:
    """So many answers within so many milliseconds."""
    counts = [0] * len(BOUNDS_MS)
    counts[bound_of(ms / 1e3)] = count
    return tuple(counts)


def numbers(champion: Any, candidate: Any) -> Observed:
    """A request for each row, with these answers."""
    rows = compared([(None, mine) for mine in champion], [(None, its) for its in candidate])
    return rows.model_copy(update={"mirrored": rows.rows})


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
    seen = Observed(mirrored=600, rows=600, changed=300)
    assert judge(seen, POLICY, "binary_classification", final=True, max_changed=0.6).failed == ()
    [failed] = judge(seen, POLICY, "binary_classification", final=True, max_changed=0.4).failed
    assert failed == "50 % of 600 rows are answered otherwise, at most 40 % may be"


def test_the_most_frequent_reason_is_told() -> None:
    observed = Observed(handed=9, handed_failed=5, reasons={"it answers 500: broken": 1, "it is late": 4})
    [failed] = judge(observed, POLICY, "regression", final=False).failed
    assert failed == "5 of 9 requests failed, at most 1 % may: it is late"


@pytest.mark.parametrize(("difference", "fails"), [(0.1, False), (0.3, True)])
def test_numbers_are_as_far_apart_as_their_spread_says(difference: float, fails: bool) -> None:
    """Which is the standard deviation of numbers that are distributed normally."""
    champion = 1_000 + 5 * np.random.default_rng(2).normal(size=500)
    seen = numbers(champion, champion + 5 * difference)
    assert distance(seen, "regression").value == pytest.approx(difference, rel=0.1)
    judgement = judge(seen, POLICY, "regression", final=True)
    assert bool(judgement.failed) == fails
    assert "500 rows are 0." in judgement.measured


@pytest.mark.parametrize(("other", "apart"), [(7.0, False), (7.1, True)])
def test_a_champion_that_gives_one_number_is_compared_with_that(other: float, apart: bool) -> None:
    seen = numbers([7.0] * 60, [other] * 60)
    assert bool(judge(seen, POLICY, "regression", final=True).failed) == apart


def test_a_few_numbers_decide_neither_the_spread_nor_the_distance() -> None:
    champion = np.random.default_rng(1).normal(size=500)
    alone = distance(numbers(champion, champion + 0.5), "regression").value
    champion[:10] = 1e9
    assert distance(numbers(champion, champion + 0.5), "regression").value == pytest.approx(alone, rel=0.1)
    candidate = champion + 0.1
    candidate[10] = 1e9
    assert not judge(numbers(champion, candidate), POLICY, "regression", final=True).failed


def test_the_spread_is_that_of_all_answers_that_are_known_of_the_champion() -> None:
    known = numbers([*range(100)], [*range(100)])
    seen = numbers([50.0] * 60, [51.0] * 60)
    assert judge(seen, POLICY, "regression", final=False).failed, "as if it gave one number alone"
    assert not judge(seen, POLICY, "regression", final=False, before=known).failed


def test_before_the_end_a_distance_that_chance_explains_ends_nothing() -> None:
    champion = np.random.default_rng(1).normal(size=60)
    candidate = champion.copy()
    candidate[0] += 100
    seen = numbers(champion, candidate)
    assert distance(seen, "regression").value > POLICY.max_changed
    assert not judge(seen, POLICY, "regression", final=False).failed
    assert judge(seen, POLICY, "regression", final=True).failed
    assert not judge(seen, POLICY, "regression", final=True, max_changed=0.21).failed, "as labels have let it through"
    one_request = seen.model_copy(update={"mirrored": 1})
    assert distance(one_request, "regression").chance > 7 * distance(seen, "regression").chance, "its rows are alike"


def test_servers_of_another_release_do_not_let_a_version_through_unseen() -> None:
    content = '{"mirrored": 60, "rows": 60, "distance": 0.5, "pairs": [[1, 1]], "what comes next": {}}'
    [failed] = judge(Observed.model_validate_json(content), POLICY, "regression", final=False).failed
    assert failed.startswith("how far 60 rows are apart is not known, for servers of another release follow")


class Population(NamedTuple):
    """What a champion answers, and its spread."""

    draw: Callable[[np.random.Generator, int], Any]
    spread: float


POPULATIONS = {
    "normal": Population(lambda chance, count: chance.normal(100, 1, count), 1),
    "lognormal": Population(lambda chance, count: chance.lognormal(0, 1.5, count), 2.1),
    "Pareto": Population(lambda chance, count: chance.pareto(2.2, count) + 1, 0.5),
    "many zeros": Population(
        lambda chance, count: np.where(chance.random(count) < 0.9, 0, chance.lognormal(0, 1.5, count)), 0.25
    ),
    "whole numbers": Population(lambda chance, count: chance.poisson(1, count).astype(float), 0.8),
    "one number": Population(lambda _, count: np.full(count, 7.0), 1),
}
HEALTHY: dict[str, Callable[..., Any]] = {
    "nearly the same": lambda chance, x, spread: x + 0.02 * spread * chance.normal(size=len(x)) * (x != 0) * (x != 7),
}
LET_THROUGH: dict[str, Callable[..., Any]] = {
    "half as large again": lambda chance, x, spread: 1.5 * x,
    "by factors": lambda chance, x, spread: x * np.exp(0.5 * chance.normal(size=len(x))),
    "far at times": lambda chance, x, spread: x + spread * chance.lognormal(0, 1.5, len(x)),
}
BROKEN: dict[str, Callable[..., Any]] = {
    "shifted": lambda chance, x, spread: x + 0.5 * spread,
    "one number": lambda chance, x, spread: np.full(len(x), np.median(x) + (not np.ptp(x))),
    "twice as large": lambda chance, x, spread: 2 * x,
    "a tenth is wrong": lambda chance, x, spread: np.where(chance.random(len(x)) < 0.1, x + 100 * spread, x),
    "a twentieth is wrong": lambda chance, x, spread: np.where(chance.random(len(x)) < 0.05, x + 100 * spread, x),
}


def rolled_back(chance: np.random.Generator, of: Population, candidate: Callable[..., Any], labels: bool) -> bool:
    """Whether a roll-out ends early: a replay of 500 rows, then 200 live ones, which are looked at as they come."""
    mine = of.draw(chance, 500)
    replayed = numbers(mine, candidate(chance, mine, of.spread))
    apart = distance(replayed, "regression")
    mended = labels and apart.perhaps > POLICY.max_changed
    allowed = max(MARGIN * apart.perhaps, apart.perhaps + POLICY.max_changed) if mended else None
    mine = of.draw(chance, 200)
    its = candidate(chance, mine, of.spread)
    looks = [(replayed, True, NOTHING_SEEN)]
    looks += [(numbers(mine[:rows], its[:rows]), rows == 200, replayed) for rows in range(50, 201, 50)]
    return any(
        judge(seen, POLICY, "regression", final=final, max_changed=allowed, before=before).failed
        for seen, final, before in looks
    )


@pytest.mark.parametrize("population", POPULATIONS)
def test_of_numbers_of_any_kind_healthy_versions_pass_and_broken_ones_do_not(population: str) -> None:
    chance, of, rollouts = np.random.default_rng(7), POPULATIONS[population], 60

    def share(candidate: Callable[..., Any], labels: bool = False) -> float:
        return sum(rolled_back(chance, of, candidate, labels) for _ in range(rollouts)) / rollouts

    assert {name: share(make) for name, make in HEALTHY.items()} == dict.fromkeys(HEALTHY, 0)
    assert {name: share(make) for name, make in BROKEN.items()} == dict.fromkeys(BROKEN, 1)
    by_labels = LET_THROUGH if population != "one number" else {}
    assert {name: share(make, labels=True) for name, make in by_labels.items()} == dict.fromkeys(by_labels, 0)


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


@pytest.mark.parametrize("scores", [(math.nan, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_figures_that_are_no_numbers_let_nothing_through(scores: tuple[float, float]) -> None:
    seen = numbers([*range(60)], [*range(60)])
    harmed = seen.model_copy(update={"sample": (*seen.sample, *[(1, *scores)] * 60)})
    assert not judge(seen, POLICY, "regression", final=True).failed
    assert judge(harmed, POLICY, "regression", final=True).failed


def dealt_out(ids: list[str], share: float) -> Observed:
    """What a server counts of requests with these ids, of which the candidate answers a share."""
    handed = sum(lies_within(share, key, "canary") for key in ids)
    keys = np.bincount([bucket_of(key) for key in ids], minlength=KEYS).tolist()
    return Observed(asked=len(ids) - handed, handed=handed, keys=tuple(keys))


IDS: dict[str, tuple[list[str], bool]] = {
    "each its own": ([f"r{number}" for number in range(5_000)], False),
    "one id": (["always"] * 5_000, True),
    "another one": (["same"] * 5_000, True),
    "ten": ([f"batch-{number % 10}" for number in range(5_000)], True),
    "a thousand": ([f"user-{number % 1_000}" for number in range(5_000)], False),
    "half of one": (["always"] * 2_500 + [f"r{number}" for number in range(2_500)], True),
}


@pytest.mark.parametrize(("ids", "few"), IDS.values(), ids=IDS)
@pytest.mark.parametrize("header", [None, "x-user"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_servers_that_deal_out_few_ids_are_not_blamed_for_it(
    ids: list[str], few: bool, header: str | None, share: float
) -> None:
    told = traffic(header, handed=share)
    seen = dealt_out(ids, share)
    assert share_not_honoured(seen, told) is None
    assert (few_keys(seen, told) is not None) == few
    heedless = seen.model_copy(update={"asked": len(ids), "handed": 0})
    assert (share_not_honoured(heedless, told) is not None) == (not few and share > 0.05)


def test_how_few_ids_there_are_is_said() -> None:
    found = few_keys(dealt_out(["always"] * 500, 0.1), traffic(handed=0.1))
    assert found == "requests come with few different ids, as many as 1, by which they are dealt out"
    found = few_keys(dealt_out([f"u{number % 10}" for number in range(5_000)], 0.1), traffic("x-user", handed=0.1))
    assert found is not None
    assert found.startswith("requests come with few different values of x-user, as many as 1")
    assert few_keys(dealt_out(["always"] * 9, 0.1), traffic(handed=0.1)) is None, "of nine requests nobody knows"
