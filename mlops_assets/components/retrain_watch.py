"""One look at all models that retrain by themselves: facts, the policy's decision, and the entry in the ledger.

Nothing that it remembers decides anything: its cursor says how far listings are and whose turn it is, and what it
keeps in memory never changes where it comes from.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg
from pydantic import Field, ValidationError

from mlops_assets.assets.champion import CHAMPION
from mlops_assets.assets.code_version import code_version
from mlops_assets.components.retrain_facts import Champion, champion, facts, window_facts
from mlops_assets.components.retrain_runs import RetrainRuns, runs_in_progress
from mlops_assets.components.source_watch import Allowance, SourceState, look
from mlops_assets.ml.automation.retrain_policy import Outcome, decide, not_now
from mlops_assets.ml.errors import LakeError, MlopsError
from mlops_assets.ml.values import Value
from resources.lake.retrain_ledger import PATIENCE, RETRAIN, RecordedRetrain, RetrainEntry, RetrainLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from mlops_assets.components.retrain_runs import SeenRetrain
    from mlops_assets.ml.automation.retrain_policy import RetrainFacts
    from mlops_assets.spec.model_spec import ModelSpec
    from resources.lake.lake import Lake
    from resources.tracking.mlflow_tracking import Tracking

log = logging.getLogger(__name__)
READS_AT_ONCE = 16
OVER = "this look came too late"


class Cursor(Value):
    """How far the listings of sources are, and the model with which the next look at them begins."""

    sources: dict[str, SourceState] = Field(default_factory=dict)
    next: str = ""


class Looked(NamedTuple):
    """The runs to ask for, what is to be said of each model, and the next cursor."""

    requests: list[dg.RunRequest]
    said: dict[str, str]
    cursor: str


class _Moment(NamedTuple):
    """What all models share at one look."""

    instance: dg.DagsterInstance
    lake: Lake
    tracking: Tracking
    now: datetime
    champions: dict[str, int]
    running: dict[str, dg.DagsterRun]
    sources: dict[str, SourceState]
    is_over: Callable[[], bool]


class RetrainWatch:
    """Looks at the models that have `retrain` in their YAML. Any number may look at once, and die at any line."""

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        self._specs = {spec.model: (spec, spec.retrain) for spec in specs if spec.retrain is not None}
        # All of it never changes where it comes from
        self._known = dict[str, Value]()
        self._ended = dict[str, Outcome]()
        self._champions = dict[tuple[str, str, int], Champion]()
        self._code = dict[str, str]()

    def look(
        self,
        instance: dg.DagsterInstance,
        lake: Lake,
        tracking: Tracking,
        cursor: str | None,
        now: datetime,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Looked:
        """Look at all models once. What goes wrong with one model is said, and the others go on.

        Nothing is begun any more once `is_over` says that nobody waits for the result.

        Raises:
            MlopsError: the lake or MLflow cannot be reached, or this environment may not change the space.
        """
        lake.check_space()
        recorded, said = self._recorded(lake)
        seen = RetrainRuns(self._ended).seen(instance, recorded, now)
        champions, running = tracking.with_alias(CHAMPION), runs_in_progress(instance, recorded)
        sources, following, unlisted = self._list_sources(lake, _cursor(cursor))
        moment = _Moment(instance, lake, tracking, now, champions, running, sources, is_over)

        def one(model: str) -> dg.RunRequest | None:
            try:
                request, reason = self._look_at(model, seen[model], moment)
            except Exception as error:  # whatever is wrong with one model, the others are looked at
                request, reason = None, f"it cannot be looked at: {_told(error)}"
            said[model] = "; ".join(filter(None, [reason, unlisted.get(model)]))
            return request

        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            requests = [request for request in pool.map(one, recorded) if request is not None]
        return Looked(requests, said, Cursor(sources=sources, next=following).model_dump_json())

    def _recorded(self, lake: Lake) -> tuple[dict[str, list[RecordedRetrain]], dict[str, str]]:
        """The retrains of each model, and the models whose ledger cannot be read."""
        ledger = RetrainLedger(lake, self._known)
        places, recorded, broken = ledger.places(), dict[str, list[RecordedRetrain]](), dict[str, str]()
        for model in self._specs:
            try:
                recorded[model] = ledger.retrains(places.get(model, []))
            except Exception as error:
                broken[model] = f"its ledger cannot be read: {_told(error)}"
        return recorded, broken

    def _list_sources(self, lake: Lake, cursor: Cursor) -> tuple[dict[str, SourceState], str, dict[str, str]]:
        """The states of the sources, the model whose turn is next, and those whose source cannot be listed."""
        wanted = [*self._specs]
        first = wanted.index(cursor.next) if cursor.next in wanted else 0
        sources = {model: state for model, state in cursor.sources.items() if model in wanted}
        allowance, unlisted = Allowance(), dict[str, str]()
        for model in wanted[first:] + wanted[:first]:
            if allowance.is_spent:
                return sources, model, unlisted
            try:
                sources[model] = look(lake, self._specs[model][0].source.uri, sources.get(model), allowance)
            except Exception as error:
                unlisted[model] = f"its source cannot be listed: {_told(error)}"
            else:
                if sources[model].after:
                    return sources, model, unlisted
        return sources, "", unlisted

    def _look_at(self, model: str, seen: list[SeenRetrain], moment: _Moment) -> tuple[dg.RunRequest | None, str]:
        """What is to be begun for a model, and why, or why nothing is."""
        if moment.is_over():
            return None, OVER
        waiting = next((one.recorded for one in seen if one.waits), None)
        if waiting is not None:
            return self._ask_again(model, waiting, moment)
        if model not in moment.champions:
            return None, "it has no champion yet; its first training is begun by its job"
        facts = self._facts(model, seen, moment)
        _, retrain = self._specs[model]
        decision = decide(retrain, facts, [one.past for one in seen], moment.now)
        return self._begin(model, facts, moment) if decision.retrain else (None, decision.reason)

    def _ask_again(self, model: str, waiting: RecordedRetrain, moment: _Moment) -> tuple[dg.RunRequest | None, str]:
        """The run of an entry that has none, unless the moment is wrong: the one in which it was decided is over."""
        (_, retrain), entry, run = self._specs[model], waiting.entry, moment.running.get(model)
        others = f"run {run.run_id}" if run and run.tags.get(RETRAIN) != entry.key else None
        if held := not_now(retrain, others, moment.now):
            return None, f"{entry.key} was decided and has no run, but {held}"
        asked = RetrainLedger(moment.lake).ask_again(waiting, moment.now)
        what = "is asked for again" if asked else f"is asked for again when it has none for {PATIENCE}"
        return _request(entry) if asked else None, f"{entry.key} was decided and has no run; it {what}"

    def _begin(self, model: str, facts: RetrainFacts, moment: _Moment) -> tuple[dg.RunRequest | None, str]:
        """Decide again where nobody else does so meanwhile, and write the entry."""
        ledger, (_, retrain) = RetrainLedger(moment.lake, self._known), self._specs[model]
        try:
            with ledger.lock(model) as held:
                recorded = {model: ledger.retrains(ledger.places(model).get(model, []))}
                seen = RetrainRuns(self._ended).seen(moment.instance, recorded, moment.now)[model]
                decision = decide(retrain, facts, [one.past for one in seen], moment.now)
                if decision.key is None or decision.cause is None:
                    return None, decision.reason
                entry = RetrainEntry(
                    model=model,
                    key=decision.key,
                    cause=decision.cause,
                    window=decision.window,
                    reason=decision.reason,
                    facts=facts,
                    decided_at=moment.now,
                )
                held.check()
                if moment.is_over() or not ledger.write(entry):
                    return None, OVER
        except LakeError as error:
            return None, f"it is decided elsewhere, or the lake is away: {error}"
        return _request(entry), entry.reason

    def _facts(self, model: str, seen: list[SeenRetrain], moment: _Moment) -> RetrainFacts:
        (spec, retrain), number, run = self._specs[model], moment.champions[model], moment.running.get(model)
        place = (moment.tracking.address, model, number)
        if place not in self._champions:
            self._champions[place] = champion(spec, number, moment.tracking)
        if model not in self._code:
            self._code[model] = code_version(spec)
        source = moment.sources[model].version if model in moment.sources else None
        # Until the source is listed it is as it was last; else what a failed gate blocks would begin
        source = source or (seen[-1].past.data if seen else None)
        found, in_progress = self._champions[place], f"run {run.run_id}" if run else None
        windows = window_facts(spec, retrain, found, moment.lake)
        return facts(found, windows, source, self._code[model], in_progress)


def _request(entry: RetrainEntry) -> dg.RunRequest:
    return dg.RunRequest(run_key=f"{entry.model}/{entry.key}", job_name=entry.model, tags=entry.tags)


def _told(error: Exception) -> str:
    """What is said of a model; of an error that nobody has foreseen the log has the lines it comes from."""
    if isinstance(error, MlopsError | OSError):
        return str(error)
    log.error("retrain", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _cursor(text: str | None) -> Cursor:
    """A cursor; where it is lost or of another release, the listings begin anew."""
    try:
        return Cursor.model_validate_json(text) if text else Cursor()
    except ValidationError:
        return Cursor()
