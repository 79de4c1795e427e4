"""What Dagster knows of retrains: the runs of each, what became of them, and the runs of models that go on now."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from mlops_assets.ml.automation.retrain_policy import PastRetrain
from resources.kubernetes.labels import MODEL
from resources.lake.retrain_ledger import PATIENCE, RETRAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from mlops_assets.ml.automation.retrain_policy import Outcome
    from resources.lake.retrain_ledger import RecordedRetrain

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
GATE = ("evaluation", "gate")
TAKES_OVER = {("deployment", "beats_champion"), ("deployment", "newest_data")}


class SeenRetrain(NamedTuple):
    """A retrain of the ledger, what became of it, and whether Dagster has not begun it."""

    recorded: RecordedRetrain
    past: PastRetrain
    waits: bool


class RetrainRuns:
    """The runs of retrains, newest first. What became of a run that has ended is looked up once."""

    def __init__(self, ended: dict[str, Outcome] | None = None) -> None:
        self._ended = {} if ended is None else ended

    def seen(
        self, instance: dg.DagsterInstance, recorded: Mapping[str, Sequence[RecordedRetrain]], now: datetime
    ) -> dict[str, list[SeenRetrain]]:
        """The retrains of each model, the oldest first, as Dagster knows them now."""
        keys = sorted({retrain.entry.key for retrains in recorded.values() for retrain in retrains})
        runs = dict[tuple[str, str], list[dg.RunRecord]]()
        for record in instance.get_run_records(dg.RunsFilter(tags={RETRAIN: keys})) if keys else ():
            tags = record.dagster_run.tags
            runs.setdefault((tags.get(MODEL, record.dagster_run.job_name), tags[RETRAIN]), []).append(record)
        return {
            model: [self._seen(instance, one, runs.get((model, one.entry.key), []), now) for one in retrains]
            for model, retrains in recorded.items()
        }

    def _seen(
        self, instance: dg.DagsterInstance, recorded: RecordedRetrain, records: list[dg.RunRecord], now: datetime
    ) -> SeenRetrain:
        begun = recorded.begun
        if begun:  # of two that were asked for, one has taken the entry
            records = [one for one in records if begun.run_id in (one.dagster_run.run_id, one.dagster_run.root_run_id)]
        newest = records[0] if records else None
        if newest is None:
            outcome, waits = ("forgotten", False) if begun else ("running", True)
        else:
            outcome = self._outcome(instance, newest.dagster_run)
            # It was made, and its daemon died before it was launched: asked for again, Dagster launches this one
            is_new = newest.dagster_run.status == dg.DagsterRunStatus.NOT_STARTED
            waits = is_new and now - newest.create_timestamp > PATIENCE
        entry = recorded.entry
        past = PastRetrain(
            key=entry.key,
            begun_at=entry.decided_at,
            data=begun.source_version if begun else entry.facts.data,
            code=entry.facts.code,
            outcome=outcome,
        )
        return SeenRetrain(recorded, past, waits)

    def _outcome(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Outcome:
        if run.status in UNFINISHED:
            return "running"
        if run.status == dg.DagsterRunStatus.CANCELED:
            return "canceled"
        if run.run_id not in self._ended:
            self._ended[run.run_id] = _ended(instance, run)
        return self._ended[run.run_id]


def _ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Outcome:
    """What became of a run that has ended by itself, as its checks say."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    failed = {
        (*event.asset_check_evaluation_data.asset_key.path[1:], event.asset_check_evaluation_data.check_name)
        for event in events
        if event is not None and not event.asset_check_evaluation_data.passed
    }
    if run.status == dg.DagsterRunStatus.SUCCESS:
        return "not better" if failed & TAKES_OVER else "deployed"
    return "gate failed" if GATE in failed else "failed"


def runs_in_progress(instance: dg.DagsterInstance, models: Iterable[str]) -> dict[str, dg.DagsterRun]:
    """A run of each model that trains it now, or is about to."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return {model: run for model in models for run in runs if _trains(run, model)}


def _trains(run: dg.DagsterRun, model: str) -> bool:
    if run.asset_selection:
        return dg.AssetKey([model, "trained_model"]) in run.asset_selection
    return run.job_name in (model, f"{model}_by_day", f"{model}_by_month")
