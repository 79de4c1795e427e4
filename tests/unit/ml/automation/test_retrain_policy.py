"""Whether a model is trained again: each cause, what holds it back, and what can never happen whatever comes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.ml.automation.retrain_policy import (
    WEEK,
    Decision,
    Outcome,
    PastRetrain,
    QuietHours,
    RetrainFacts,
    RetrainPolicy,
    WindowFact,
    decide,
)

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ALL = RetrainPolicy(on_new_data=True, on_new_code=True, on_performance_loss=0.1, max_age=30 * DAY)
AT_NIGHT = QuietHours(begin=time(22), end=time(6), time_zone="Europe/Zurich")


def windows(drifted: str, loss: float | None = None) -> tuple[WindowFact, ...]:
    """A report of each day up to now: `d` has drifted, `-` has not, `?` has no score."""
    flags = {"d": True, "-": False, "?": None}
    days = [NOW.date() - (len(drifted) - index) * DAY for index in range(len(drifted))]
    return tuple(
        WindowFact(day=day, has_drifted=flags[flag], performance_loss=loss)
        for day, flag in zip(days, drifted, strict=True)
    )


def facts(drifted: str = "", loss: float | None = None, **changed: Any) -> RetrainFacts:
    made: dict[str, Any] = {"trained_at": NOW - 10 * DAY, "trained_on": "d1", "data": "d1", "code": "c1"}
    return RetrainFacts(**{"trained_by": "c1", "windows": windows(drifted, loss)} | made | changed)


def past(key: str, days: float, outcome: Outcome = "deployed", **changed: str) -> PastRetrain:
    data, code = changed.get("data", "d1"), changed.get("code", "c1")
    return PastRetrain(key=key, begun_at=NOW - days * DAY, data=data, code=code, outcome=outcome)


@pytest.mark.parametrize(
    ("known", "cause", "key", "reason"),
    [
        (facts("-dd"), "drift", "drift/2026-11-17", "2 of the last 3 windows have drifted"),
        (facts("dd?"), "drift", "drift/2026-11-16", "the last one of 2026-11-16"),
        (facts("-", loss=0.2), "performance", "performance/2026-11-17", "is worse by 0.2, and 0.1 is a cause"),
        (facts(data="d2"), "new data", "new data/d2", "the source has changed, to d2"),
        (facts(code="c2"), "new code", "new code/c2", "the code has changed, to c2"),
        (facts(trained_at=NOW - 31 * DAY), "age", "age/2026-10-18T12:00:00+00:00", "31 days ago, and 30d is the most"),
    ],
)
def test_each_cause_brings_a_retrain_of_its_own(known: RetrainFacts, cause: str, key: str, reason: str) -> None:
    decision = decide(ALL, known, [], NOW)
    assert (decision.retrain, decision.cause, decision.key) == (True, cause, key)
    assert reason in decision.reason


@pytest.mark.parametrize("drifted", ["", "d", "-d-", "d--d-", "???", "d?-?-"])
def test_too_few_drifted_windows_are_no_cause(drifted: str) -> None:
    decision = decide(RetrainPolicy(), facts(drifted), [], NOW)
    assert not decision.retrain
    assert decision.reason.startswith("no cause: ")


def test_causes_that_the_policy_does_not_name_are_none() -> None:
    known = facts("ddd", loss=0.9, data="d2", code="c2", trained_at=NOW - 900 * DAY)
    assert not decide(RetrainPolicy(on_drift=False), known, [], NOW).retrain


@pytest.mark.parametrize(
    ("policy", "history", "reason"),
    [
        (RetrainPolicy(), [past("age/x", 9, "running")], "age/x is in flight since 2026-11-09 12:00 UTC"),
        (RetrainPolicy(), [past("age/x", 0.5)], "was begun less than 1d ago; not before 2026-11-19 00:00 UTC"),
        (
            RetrainPolicy(per_week=2),
            [past("age/x", 6), past("age/y", 3)],
            "2 of 2 a week are spent; not before 2026-11-19",
        ),
        (RetrainPolicy(), [past("age/x", 2, "gate failed")], "the gate has failed on the same data and code"),
        (
            RetrainPolicy(quiet_hours=QuietHours(begin=time(12), end=time(14), time_zone="Europe/Zurich")),
            [],
            "it is quiet from 12:00 to 14:00 (Europe/Zurich)",
        ),
    ],
)
def test_what_holds_a_retrain_back_is_said_with_the_cause(
    policy: RetrainPolicy, history: list[PastRetrain], reason: str
) -> None:
    decision = decide(policy, facts("ddd"), history, NOW)
    assert not decision.retrain
    assert decision.reason.startswith("3 of the last 3 windows have drifted")
    assert reason in decision.reason


def test_nothing_is_begun_beside_a_run_of_the_model_that_somebody_else_has_started() -> None:
    decision = decide(RetrainPolicy(), facts("ddd", in_progress="run 1f"), [], NOW)
    assert decision.reason.endswith("but run 1f is in progress")


@pytest.mark.parametrize(("outcome", "again"), [("not better", False), ("deployed", False), ("failed", True)])
def test_age_counts_from_the_last_training_that_came_to_an_end(outcome: Outcome, again: bool) -> None:
    old = facts(trained_at=NOW - 100 * DAY)
    assert decide(ALL, old, [past("age/x", 20, outcome)], NOW).retrain == again


@pytest.mark.parametrize("outcome", ["canceled", "forgotten"])
def test_what_somebody_has_ended_or_deleted_is_not_begun_again(outcome: Outcome) -> None:
    assert not decide(RetrainPolicy(), facts("ddd"), [past("drift/2026-11-17", 5, outcome)], NOW).retrain


@pytest.mark.parametrize("change", [{"data": "d2"}, {"code": "c2"}])
def test_new_data_or_code_ends_the_wait_after_a_failed_gate(change: dict[str, str]) -> None:
    assert decide(RetrainPolicy(), facts("ddd", **change), [past("age/x", 2, "gate failed")], NOW).retrain


def test_a_failed_gate_holds_also_when_a_run_has_failed_since() -> None:
    history = [past("age/x", 4, "gate failed"), past("age/y", 2, "failed")]
    assert not decide(RetrainPolicy(), facts("ddd"), history, NOW).retrain


def test_what_was_begun_for_the_same_window_is_not_begun_again() -> None:
    decision = decide(RetrainPolicy(), facts("ddd"), [past("drift/2026-11-17", 5)], NOW)
    assert decision.reason.endswith("for which a retrain was begun already")


def test_a_run_that_failed_is_tried_again_under_another_key() -> None:
    history = [past("drift/2026-11-17", 4, "failed")]
    assert decide(RetrainPolicy(), facts("ddd"), history, NOW).key == "drift/2026-11-17#2"
    history.append(past("drift/2026-11-17#2", 2))
    assert not decide(RetrainPolicy(), facts("ddd"), history, NOW).retrain


@pytest.mark.parametrize(("hour", "quiet"), [(20, False), (21, True), (3, True), (5, False), (12, False)])
def test_quiet_hours_are_those_of_their_time_zone_and_go_past_midnight(hour: int, quiet: bool) -> None:
    assert AT_NIGHT.hold(datetime(2026, 11, 18, hour, tzinfo=UTC)) == quiet


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drifted_windows": 4}, "4 of 3 windows there cannot be"),
        ({"quiet_hours": {"begin": "22:00", "end": "06:00", "time_zone": "Bern"}}, "this is no time zone"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RetrainPolicy.model_validate(wrong)


# ---- whatever comes ----
POLICIES = st.builds(
    RetrainPolicy,
    on_drift=st.booleans(),
    drifted_windows=st.integers(1, 2),
    of_windows=st.integers(2, 4),
    on_performance_loss=st.sampled_from([None, 0.1]),
    on_new_data=st.booleans(),
    on_new_code=st.booleans(),
    max_age=st.sampled_from([None, 2 * DAY]),
    cooldown=st.sampled_from([timedelta(hours=1), DAY, 3 * DAY]),
    per_week=st.integers(1, 4),
    quiet_hours=st.sampled_from([None, AT_NIGHT]),
)
TICKS = st.lists(
    st.tuples(
        st.integers(1, 40),  # hours since the tick before
        st.text("d-?", max_size=5),
        st.sampled_from([None, 0.05, 0.2]),
        st.sampled_from(["d1", "d2", "d3"]),
        st.sampled_from(["c1", "c2"]),
        st.sampled_from(["running", "deployed", "not better", "gate failed", "failed"]),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(POLICIES, TICKS)
def test_retrains_never_run_wild(policy: RetrainPolicy, ticks: list[Any]) -> None:
    history, now = list[PastRetrain](), NOW
    for hours, drifted, loss, data, code, becomes in ticks:
        now += timedelta(hours=hours)
        if history and history[-1].outcome == "running":
            history[-1] = history[-1].model_copy(update={"outcome": becomes})
        known = facts(drifted, loss, data=data, code=code)
        decision = decide(policy, known, history, now)
        assert decision == decide(policy, known, history, now)
        assert decision.reason
        if not decision.retrain:
            continue
        assert decision.key is not None
        assert decision.key not in {entry.key for entry in history}
        assert all(entry.outcome != "running" for entry in history)
        assert not history or now - history[-1].begun_at >= policy.cooldown
        assert policy.quiet_hours is None or not policy.quiet_hours.hold(now)
        begun = PastRetrain(key=decision.key, begun_at=now, data=data, code=code, outcome="running")
        # Asked again by a daemon that died after it wrote the entry, or by a second one
        assert not decide(policy, known, [*history, begun], now).retrain
        history.append(begun)
        assert sum(entry.begun_at > now - WEEK for entry in history) <= policy.per_week


@given(POLICIES, st.text("-?", max_size=6))
def test_without_a_cause_nothing_is_begun(policy: RetrainPolicy, quiet: str) -> None:
    known = facts(quiet, trained_at=NOW - timedelta(hours=1))
    assert decide(policy, known, [], NOW).retrain is False


@given(POLICIES, st.text("d-?", max_size=6), st.permutations([past("age/x", 9), past("age/y", 5), past("age/z", 2)]))
def test_the_order_of_the_history_decides_nothing(
    policy: RetrainPolicy, drifted: str, history: list[PastRetrain]
) -> None:
    def decided(entries: list[PastRetrain]) -> Decision:
        return decide(policy, facts(drifted), entries, NOW)

    assert decided(history) == decided(sorted(history, key=lambda entry: entry.begun_at))
