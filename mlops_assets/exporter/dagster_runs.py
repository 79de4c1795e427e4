"""What Dagster's storage says: checks, trainings, retrains, and whether runs and daemon go on."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, get_args

import dagster as dg

from mlops_assets.assets.trained_model import SPEED
from mlops_assets.exporter.figures import Figure
from mlops_assets.exporter.sources import Reading, of_each
from mlops_assets.ml.automation.retrain_policy import WEEK, Cause, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REASON_TAG = "mlops/retrain_reason"
CHECKS = (("evaluation", "gate"), ("deployment", "beats_champion"), ("deployment", "no_skew"))
LOOKED_AT = 5  # trainings for one that was not skipped, and checks for one that was evaluated
EVALUATED = {"SUCCEEDED": 1, "FAILED": 0}
GOING_ON = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
OVERLAP = timedelta(minutes=1)  # clocks of database and exporter may differ so much
FAILURES: tuple[Outcome, ...] = ("gate failed", "failed")


class Retrain(NamedTuple):
    """A run that was begun for a cause."""

    model: str
    reason: str
    outcome: Outcome
    begun_at: datetime


class DagsterRuns:
    """What a Dagster instance has. Retrains that were seen once count on when somebody deletes their runs."""

    def __init__(self, open_instance: Callable[[], dg.DagsterInstance]) -> None:
        self._open, self._instance = open_instance, None
        self._retrains: dict[str, Retrain] = {}
        self._looked_at: datetime | None = None

    def read(self, names: dict[str, str]) -> Reading:
        """All figures of these models, which are given with their names in MLflow."""
        self._instance = instance = self._instance or self._open()
        self._look_for_retrains(instance)
        of_models = of_each(names, lambda model: self._model_figures(instance, model, names[model]))
        return Reading((*of_models.figures, *_platform_figures(instance)), of_models.unread)

    def _model_figures(self, instance: dg.DagsterInstance, model: str, name: str) -> Iterator[Figure]:
        for stage, check in CHECKS:
            key = dg.AssetCheckKey(dg.AssetKey([model, stage]), check)
            # A record of a check that was only planned, as of a run that goes on, is no evaluation
            records = instance.event_log_storage.get_asset_check_execution_history(key, LOOKED_AT)
            results = [record.status.value for record in records if record.status.value in EVALUATED]
            for result in results[:1]:
                yield Figure("model_check_passed", (name, stage, check), EVALUATED[result])
        trainings = instance.fetch_materializations(dg.AssetKey([model, "trained_model"]), LOOKED_AT).records
        found = [training.asset_materialization for training in trainings]
        speeds = [made.metadata[SPEED].value for made in found if made is not None and SPEED in made.metadata]
        for speed in speeds[:1]:
            yield Figure("model_training_rows_per_second", (name,), float(str(speed)))
        of_model = sorted((one for one in self._retrains.values() if one.model == model), key=lambda one: one.begun_at)
        yield from retrain_figures(name, of_model, datetime.now(UTC))

    def _look_for_retrains(self, instance: dg.DagsterInstance) -> None:
        now = datetime.now(UTC)
        tagged = dg.RunsFilter(tags={REASON_TAG: list(get_args(Cause))}, updated_after=self._looked_at)
        for record in instance.get_run_records(tagged):
            run = record.dagster_run
            begun_at = record.create_timestamp.astimezone(UTC)
            outcome = outcome_of(instance, run)
            self._retrains[run.run_id] = Retrain(_model_of(run), run.tags[REASON_TAG], outcome, begun_at)
        self._looked_at = now - OVERLAP


def retrain_figures(name: str, retrains: Iterable[Retrain], now: datetime) -> Iterator[Figure]:
    """Of the retrains of a model, the oldest first. What has not been yet has its 0, so that the first one is seen."""
    known, failures, of_week = list(retrains), 0, 0
    counted = Counter({(cause, outcome): 0 for cause in get_args(Cause) for outcome in get_args(Outcome)})
    for one in known:
        counted[one.reason, one.outcome] += 1
        of_week += one.begun_at > now - WEEK
        if one.outcome != "running":
            failures = failures + 1 if one.outcome in FAILURES else 0
    for (reason, outcome), count in counted.items():
        if outcome != "running":  # it becomes another one, and a counter never falls
            yield Figure("model_retrain_total", (name, reason, outcome), count)
    yield Figure("model_retrain_failures", (name,), failures)
    yield Figure("model_retrains_of_week", (name,), of_week)


def outcome_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Outcome:
    """What became of a run that trains a model again."""
    if not run.is_finished:
        return "running"
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    checks = [event.asset_check_evaluation_data for event in events if event is not None]
    failed = {check.check_name for check in checks if not check.passed}
    if run.is_success:
        return "not better" if "beats_champion" in failed else "deployed"
    return "gate failed" if "gate" in failed else "failed"


def _model_of(run: dg.DagsterRun) -> str:
    """Jobs of a model are called like it, those with partitions with an ending."""
    return run.job_name.removesuffix("_by_month").removesuffix("_by_day")


def _platform_figures(instance: dg.DagsterInstance) -> Iterator[Figure]:
    for status in GOING_ON:
        count = instance.get_runs_count(dg.RunsFilter(statuses=[status]))
        yield Figure("dagster_runs", (status.value.lower(),), count)
    for daemon, heartbeat in instance.get_daemon_heartbeats().items():
        yield Figure("dagster_daemon_heartbeat_timestamp_seconds", (daemon,), heartbeat.timestamp)
