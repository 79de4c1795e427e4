"""What Dagster's storage says: checks, trainings, retrains, and whether runs and daemon go on."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import dagster as dg

from mlops_assets.assets.trained_model import SPEED
from mlops_assets.components.retrain_runs import RetrainRuns
from mlops_assets.exporter.figures import Figure
from mlops_assets.exporter.sources import Reading, of_each
from mlops_assets.ml.automation.retrain_policy import WEEK, Cause, Outcome
from resources.lake.retrain_ledger import RetrainLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlops_assets.ml.automation.retrain_policy import PastRetrain
    from resources.lake.lake import Lake

CHECKS = (("evaluation", "gate"), ("deployment", "beats_champion"), ("deployment", "no_skew"))
LOOKED_AT = 5  # trainings for one that was not skipped, and checks for one that was evaluated
EVALUATED = {"SUCCEEDED": 1, "FAILED": 0}
GOING_ON = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
ENDED = tuple(outcome for outcome in get_args(Outcome) if outcome != "running")
FAILURES = ("gate failed", "failed")


class DagsterRuns:
    """What a Dagster instance has, and of the lake the ledger of retrains. What was counted once counts on."""

    def __init__(self, open_instance: Callable[[], dg.DagsterInstance], lake: Lake) -> None:
        self._open, self._instance = open_instance, None
        self._ledger, self._runs = RetrainLedger(lake), RetrainRuns()
        self._places: dict[str, list[str]] = {}
        self._counted: dict[str, dict[str, tuple[str, str]]] = {}

    def read(self, names: dict[str, str]) -> Reading:
        """All figures of these models, which are given with their names in MLflow."""
        self._instance = instance = self._instance or self._open()
        self._places = self._ledger.places()
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
        now = datetime.now(UTC)
        retrains = self._retrains(instance, model, now)
        yield from retrain_figures(name, retrains, self._counted[model].values(), now)

    def _retrains(self, instance: dg.DagsterInstance, model: str, now: datetime) -> list[PastRetrain]:
        """The retrains of a model, the oldest first; those that have ended are counted by the way."""
        recorded = {model: self._ledger.retrains(self._places.get(model, []))}
        seen, counted = self._runs.seen(instance, recorded, now)[model], self._counted.setdefault(model, {})
        for retrain in seen:
            # By what became of it first: one that is executed again, or whose run is deleted, counts already
            if retrain.past.outcome != "running":
                counted.setdefault(retrain.past.key, (retrain.recorded.entry.cause, retrain.past.outcome))
        return [retrain.past for retrain in seen]


def retrain_figures(
    name: str, retrains: Sequence[PastRetrain], counted: Iterable[tuple[str, str]], now: datetime
) -> Iterator[Figure]:
    """Of a model: its retrains, the oldest first, and cause and outcome of those that have ended.

    What has not been yet has its 0, so that Prometheus sees the first one.
    """
    totals = Counter({(cause, outcome): 0 for cause in get_args(Cause) for outcome in ENDED})
    totals.update(counted)
    for (reason, outcome), count in totals.items():
        yield Figure("model_retrain_total", (name, reason, outcome), count)
    failures = 0
    for past in retrains:
        if past.outcome != "running":
            failures = failures + 1 if past.outcome in FAILURES else 0
    yield Figure("model_retrain_failures", (name,), failures)
    yield Figure("model_retrains_of_week", (name,), sum(past.begun_at > now - WEEK for past in retrains))


def _platform_figures(instance: dg.DagsterInstance) -> Iterator[Figure]:
    for status in GOING_ON:
        count = instance.get_runs_count(dg.RunsFilter(statuses=[status]))
        yield Figure("dagster_runs", (status.value.lower(),), count)
    for daemon, heartbeat in instance.get_daemon_heartbeats().items():
        yield Figure("dagster_daemon_heartbeat_timestamp_seconds", (daemon,), heartbeat.timestamp)
