"""Shares of keys, and what several servers saw, added up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.serving.traffic import BOUNDS_MS, PAIRS, Observed, bound_of, lies_within, percentile_ms

COUNTS = st.lists(st.integers(0, 1_000), max_size=len(BOUNDS_MS)).map(tuple)
OBSERVED = st.builds(
    Observed,
    asked=st.integers(0, 10**6),
    handed=st.integers(0, 10**6),
    changed=st.integers(0, 10**6),
    distance=st.integers(0, 10**6).map(float),
    champion_ms=COUNTS,
    candidate_ms=COUNTS,
    reasons=st.dictionaries(st.sampled_from(["late", "away"]), st.integers(1, 9)),
    pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=3).map(tuple),
)


@given(OBSERVED, OBSERVED)
def test_what_two_servers_saw_is_added(one: Observed, two: Observed) -> None:
    both = one + two
    assert (both.asked, both.handed) == (one.asked + two.asked, one.handed + two.handed)
    assert sum(both.champion_ms) == sum(one.champion_ms) + sum(two.champion_ms)
    assert both.candidate_ms == (two + one).candidate_ms
    assert both.reasons == (two + one).reasons
    assert sum(both.reasons.values()) == sum(one.reasons.values()) + sum(two.reasons.values())
    assert Observed.model_validate_json(both.model_dump_json()) == both
    assert Observed() + one == one


def test_scores_that_are_kept_are_bounded() -> None:
    many = Observed(pairs=((0.5, 0.5),) * PAIRS)
    assert len((many + many + many).pairs) == 2 * PAIRS


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
