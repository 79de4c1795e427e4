"""Whether a model is to be trained again: one pure function of what is known, what was done, and the time.

Nothing else decides it. Who gathers the facts and keeps the history may ask as often as it likes, and after any crash:
what was decided once stands in the history under its key, and is not decided again.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, Field, model_validator

from mlops_assets.ml.times import TimeOfDay, TimeZone
from mlops_assets.ml.values import Duration, Value, problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Cause = Literal["performance", "drift", "new data", "new code", "age"]
Outcome = Literal["running", "deployed", "not better", "gate failed", "failed", "canceled", "forgotten"]
"""What became of a retrain; `forgotten` is one that was begun, and whose run was deleted since."""
WEEK, RETRY = timedelta(days=7), "#"


class QuietHours(Value):
    """A part of each day in which no retrain begins; it may go past midnight."""

    begin: TimeOfDay = Field(description="When it begins, such as 22:00")
    end: TimeOfDay = Field(description="When it is over, such as 06:00")
    time_zone: TimeZone = Field(default="UTC", description="A name such as Europe/Zurich")

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.begin == self.end:
            what = "it is the time at which they begin: it is never quiet then, or always; give another"
            raise problem("end", what)
        return self

    def hold(self, now: datetime) -> bool:
        """Whether it is quiet now."""
        local = now.astimezone(ZoneInfo(self.time_zone)).time()
        if self.begin <= self.end:
            return self.begin <= local < self.end
        return local >= self.begin or local < self.end


class RetrainPolicy(Value):
    """What a retrain is begun for, and what holds it back."""

    on_drift: bool = Field(default=True, description="Whether drift is a cause")
    drifted_windows: int = Field(
        default=2, ge=1, description="Drift is a cause when so many of the last of_windows reports are above threshold"
    )
    of_windows: int = Field(
        default=3, ge=1, le=31, description="How many reports, of those with a score, are looked at"
    )
    on_performance_loss: float | None = Field(
        default=None, gt=0, description="By how much worse the gate's metric of labelled rows is than on the test part"
    )
    on_new_data: bool = Field(default=False, description="Whether other objects at source.uri are a cause")
    on_new_code: bool = Field(
        default=False, description="Whether another YAML, class or code of a stage that decides the model is a cause"
    )
    max_age: Duration | None = Field(default=None, description="How long after the last training the next one is due")
    cooldown: Duration = Field(default=timedelta(days=1), description="The least time from one retrain to the next")
    per_week: int = Field(default=3, ge=1, description="How many retrains may begin within seven days")
    quiet_hours: QuietHours | None = Field(default=None, description="A part of each day in which none begins")
    gate_failure_blocks: Duration = Field(
        default=WEEK, description="How long a failed gate lets no retrain begin on the same data and code"
    )

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.drifted_windows > self.of_windows:
            what = (
                f"{self.drifted_windows} of {self.of_windows} windows there cannot be; give at most {self.of_windows}"
            )
            raise problem("drifted_windows", what)
        return self

    @property
    def reads_reports(self) -> bool:
        """Whether drift reports can be a cause."""
        return self.on_drift or self.on_performance_loss is not None


class WindowFact(Value):
    """What a drift report of the champion says; `has_drifted` is None where it has no score."""

    day: date
    has_drifted: bool | None
    performance_loss: float | None = None


class RetrainFacts(Value):
    """What is known now of a champion and of what it was made from."""

    trained_at: AwareDatetime
    trained_on: str
    """The version of the source data it was made from; `data` is that of the source as it is."""
    data: str
    trained_by: str
    """The version of the code that made it; `code` is that of the code as it is."""
    code: str
    windows: tuple[WindowFact, ...] = ()
    """Reports about this champion, the last day last."""
    in_progress: str | None = None
    """The run that is at work on the model already and is no retrain of the history, such as a user's."""


class PastRetrain(Value):
    """An entry of the history: what was begun, why, from what, and what became of it."""

    key: str
    begun_at: AwareDatetime
    data: str
    """The versions of the source data and the code it was made from, as in `RetrainFacts`."""
    code: str
    outcome: Outcome


class Decision(Value):
    """What to do, and why; `key` names the retrain in the history, and `cause` is its tag."""

    retrain: bool
    reason: str
    cause: Cause | None = None
    key: str | None = None
    window: date | None = None
    """The day of the report that is the cause, where one is."""


def decide(policy: RetrainPolicy, facts: RetrainFacts, history: Sequence[PastRetrain], now: datetime) -> Decision:
    """Whether to begin a retrain now. The same arguments always give the same decision."""
    found = dict(_causes(policy, facts, history, now))
    if not found:
        return Decision(retrain=False, reason=f"no cause: {_without_cause(policy, facts, history, now)}")
    held = _held_back(policy, facts, history, now)
    for cause, (basis, reason) in found.items():
        first = f"{cause}/{basis}"
        tries = [entry for entry in history if entry.key.partition(RETRY)[0] == first]
        if any(entry.outcome != "failed" for entry in tries):
            continue
        if held:
            return Decision(retrain=False, reason=f"{reason}, but {held}")
        key = f"{first}{RETRY}{len(tries) + 1}" if tries else first
        window = date.fromisoformat(basis) if cause in ("drift", "performance") else None
        return Decision(retrain=True, reason=reason, cause=cause, key=key, window=window)
    reasons = "; ".join(reason for _, reason in found.values())
    return Decision(retrain=False, reason=f"{reasons}, for which a retrain was begun already")


def _causes(
    policy: RetrainPolicy, facts: RetrainFacts, history: Sequence[PastRetrain], now: datetime
) -> Iterator[tuple[Cause, tuple[str, str]]]:
    """The causes there are, the most pressing first, each with what makes it one of its kind, and in words."""
    loss = _last_loss(facts)
    if policy.on_performance_loss is not None and loss is not None and loss[1] >= policy.on_performance_loss:
        words = f"the metric of {loss[0]} is worse by {loss[1]:.4g}, and {policy.on_performance_loss:g} is a cause"
        yield "performance", (str(loss[0]), words)
    if policy.on_drift:
        days = _drifted_days(policy, facts)
        if len(days) >= policy.drifted_windows:
            words = f"{len(days)} of the last {policy.of_windows} windows have drifted, the last one of {days[-1]}"
            yield "drift", (str(days[-1]), words)
    done = [entry for entry in history if entry.outcome != "failed"]
    if policy.on_new_data and facts.data not in {facts.trained_on, *(entry.data for entry in done)}:
        yield "new data", (facts.data, f"the source has changed, to {facts.data}")
    if policy.on_new_code and facts.code not in {facts.trained_by, *(entry.code for entry in done)}:
        yield "new code", (facts.code, f"the code has changed, to {facts.code}")
    trained = _last_training(facts, history)
    if policy.max_age is not None and now - trained >= policy.max_age:
        words = f"the last training was {(now - trained).days} days ago, and {_told(policy.max_age)} is the most"
        yield "age", (trained.astimezone(UTC).isoformat(), words)


def _last_training(facts: RetrainFacts, history: Sequence[PastRetrain]) -> datetime:
    """When the model was trained last: a retrain that has made the same model again, or no better one, is one."""
    ended = (entry.begun_at for entry in history if entry.outcome in ("deployed", "not better"))
    return max([facts.trained_at, *ended])


def _held_back(policy: RetrainPolicy, facts: RetrainFacts, history: Sequence[PastRetrain], now: datetime) -> str | None:
    """What keeps every retrain from beginning now."""
    running = [f"{entry.key} is in flight since {_moment(entry.begun_at)}" for entry in _running(history)]
    running += [f"{facts.in_progress} is in progress"] if facts.in_progress else []
    if running:
        return running[0]
    past = sorted(history, key=lambda entry: entry.begun_at)
    if past and now < (until := past[-1].begun_at + policy.cooldown):
        return f"{past[-1].key} was begun less than {_told(policy.cooldown)} ago; not before {_moment(until)}"
    of_week = [entry for entry in past if entry.begun_at > now - WEEK]
    if len(of_week) >= policy.per_week:
        until = of_week[-policy.per_week].begun_at + WEEK
        return f"{len(of_week)} of {policy.per_week} a week are spent; not before {_moment(until)}"
    finished = [entry for entry in past if entry.outcome != "failed"]
    if finished and finished[-1].outcome == "gate failed":
        last, until = finished[-1], finished[-1].begun_at + policy.gate_failure_blocks
        if (last.data, last.code) == (facts.data, facts.code) and now < until:
            return f"the gate has failed on the same data and code; not before {_moment(until)}"
    return not_now(policy, None, now)


def not_now(policy: RetrainPolicy, in_progress: str | None, now: datetime) -> str | None:
    """What lets no run begin at this moment, and not one either that was decided before; None where nothing does."""
    if in_progress:
        return f"{in_progress} is in progress"
    quiet = policy.quiet_hours
    if quiet is not None and quiet.hold(now):
        return f"it is quiet from {quiet.begin:%H:%M} to {quiet.end:%H:%M} ({quiet.time_zone})"
    return None


def _running(history: Sequence[PastRetrain]) -> list[PastRetrain]:
    return [entry for entry in history if entry.outcome == "running"]


def _measured(policy: RetrainPolicy, facts: RetrainFacts) -> list[WindowFact]:
    return [window for window in facts.windows if window.has_drifted is not None][-policy.of_windows :]


def _drifted_days(policy: RetrainPolicy, facts: RetrainFacts) -> list[date]:
    return [window.day for window in _measured(policy, facts) if window.has_drifted]


def _last_loss(facts: RetrainFacts) -> tuple[date, float] | None:
    known = [(window.day, window.performance_loss) for window in facts.windows if window.performance_loss is not None]
    return known[-1] if known else None


def _without_cause(policy: RetrainPolicy, facts: RetrainFacts, history: Sequence[PastRetrain], now: datetime) -> str:
    drifted, measured = len(_drifted_days(policy, facts)), len(_measured(policy, facts))
    said = f"{drifted} of {measured} windows with a score have drifted, and {policy.drifted_windows} are a cause"
    parts = [
        said if policy.on_drift else "",
        f"the last training was {(now - _last_training(facts, history)).days} days ago",
    ]
    return "; ".join(filter(None, parts))


def _told(duration: timedelta) -> str:
    return f"{duration.days}d" if duration % timedelta(days=1) == timedelta(0) else f"{duration.total_seconds():.0f}s"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
