"""Shares of keys, and what several servers saw, added up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.serving.traffic import (
    BOUNDS_MS,
    KEYS,
    SAMPLED,
    Observed,
    bound_of,
    bucket_of,
    different_keys,
    drawn,
    lies_within,
    percentile_ms,
    sampled,
)

COUNTS = st.lists(st.integers(0, 1_000), max_size=len(BOUNDS_MS)).map(tuple)
OBSERVED = st.builds(
    Observed,
    asked=st.integers(0, 10**6),
    handed=st.integers(0, 10**6),
    changed=st.integers(0, 10**6),
    idle_s=st.none() | st.integers(0, 99).map(float),
    keys=COUNTS,
    champion_ms=COUNTS,
    candidate_ms=COUNTS,
    reasons=st.dictionaries(st.sampled_from(["late", "away"]), st.integers(1, 9)),
    sample=st.lists(st.tuples(st.integers(0, 2**48), st.floats(0, 1), st.floats(0, 1)), max_size=3).map(sampled),
)


@given(OBSERVED, OBSERVED)
def test_what_two_servers_saw_is_added(one: Observed, two: Observed) -> None:
    both = one + two
    assert (both.asked, both.handed) == (one.asked + two.asked, one.handed + two.handed)
    assert sum(both.champion_ms) == sum(one.champion_ms) + sum(two.champion_ms)
    assert both.candidate_ms == (two + one).candidate_ms
    assert (both.reasons, both.sample, both.idle_s) == ((two + one).reasons, (two + one).sample, (two + one).idle_s)
    assert sum(both.reasons.values()) == sum(one.reasons.values()) + sum(two.reasons.values())
    assert Observed.model_validate_json(both.model_dump_json()) == both
    assert Observed() + one == one


def test_the_sample_of_several_servers_is_bounded_and_one_of_all_their_rows() -> None:
    small, large = (Observed(sample=drawn([(mine, mine)] * rows)) for mine, rows in ((1.0, 1_000), (2.0, 9_000)))
    assert len(small.sample) == len(large.sample) == SAMPLED
    numbers = [mine for mine, _ in (small + large).pairs]
    assert len(numbers) == SAMPLED
    shares = []
    for _ in range(50):
        both = Observed(sample=drawn([(1.0, 1.0)] * 1_000)) + Observed(sample=drawn([(2.0, 2.0)] * 4_000))
        shares.append([mine for mine, _ in both.pairs].count(1.0) / SAMPLED)
    assert sum(shares) / len(shares) == pytest.approx(0.2, abs=0.02), "a fifth of the rows, as of the sample"


def test_what_servers_of_other_releases_say_is_read_as_far_as_it_is_known() -> None:
    content = '{"asked": 3, "distance": 1.5, "total": 2.0, "squares": 4.0, "pairs": [[1, 2]], "later": [1]}'
    assert Observed.model_validate_json(content) == Observed(asked=3)


@pytest.mark.parametrize(("different", "requests"), [(1, 500), (10, 5_000), (200, 50_000), (5_000, 5_000)])
def test_how_many_different_keys_there_are_is_told_from_their_counts(different: int, requests: int) -> None:
    counts = [0] * KEYS
    for number in range(requests):
        counts[bucket_of(f"key-{number % different}")] += 1
    assert different_keys(counts) == pytest.approx(different, rel=0.4)
    assert different_keys([]) == different_keys([0] * KEYS) == math.inf


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_percentile_is_the_bound_above_that_share_of_times(seconds: list[float], share: float) -> None:
    counts = [0] * len(BOUNDS_MS)
    for value in seconds:
        counts[bound_of(value)] += 1
    bound = percentile_ms(tuple(counts), share)
    within = sum(1e3 * value <= bound or bound == BOUNDS_MS[-1] for value in seconds)
    assert within >= share * len(seconds) - 1e-6


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_a_share_of_keys_is_that_share_and_the_same_on_every_server(share: float) -> None:
    keys = [f"user-{number}" for number in range(20_000)]
    chosen = {key for key in keys if lies_within(share, key, "canary")}
    assert len(chosen) / len(keys) == pytest.approx(share, abs=0.01)
    assert chosen == {key for key in keys if lies_within(share, key, "canary")}
    other = {key for key in keys if lies_within(share, key, "mirror")}
    assert len(chosen & other) / len(keys) == pytest.approx(share**2, abs=0.01), "independent of the other purpose"


def test_who_was_in_a_smaller_share_is_in_a_larger_one() -> None:
    keys = [f"user-{number}" for number in range(2_000)]
    small, large = ({key for key in keys if lies_within(share, key, "canary")} for share in (0.1, 0.3))
    assert small < large
