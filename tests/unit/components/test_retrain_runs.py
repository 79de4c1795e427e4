"""What became of retrains, as the runs say that carry their tags."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from mlops_assets.components.retrain_runs import RetrainRuns, SeenRetrain, runs_in_progress
from resources.kubernetes.labels import MODEL
from resources.lake.retrain_ledger import BegunRun, RecordedRetrain
from tests.retraining import entry, job, made_run

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY = entry()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def seen(instance: dg.DagsterInstance, begun: str | None = None, minutes: int = 0) -> SeenRetrain:
    taken = BegunRun(run_id=begun, source_version="data of the run") if begun else None
    recorded = {"weather": [RecordedRetrain(entry=ENTRY, begun=taken, again=0)]}
    [found] = RetrainRuns().seen(instance, recorded, datetime.now(UTC) + timedelta(minutes=minutes))["weather"]
    return found


def execute(instance: dg.DagsterInstance, model: str = "weather", **ends: bool) -> str:
    tags = {MODEL: model, **ENTRY.tags}
    return job(model, **ends).execute_in_process(instance=instance, tags=tags, raise_on_error=False).run_id


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        ({}, "deployed"),
        ({"better": False}, "not better"),
        ({"gate": False}, "gate failed"),
        ({"breaks": True}, "failed"),
    ],
    ids=["deployed", "not better", "gate failed", "failed"],
)
def test_the_outcome_is_that_of_the_run(instance: dg.DagsterInstance, ends: dict[str, bool], outcome: str) -> None:
    execute(instance, "weather_b", breaks=True)  # with the same tag, of another model
    execute(instance, **ends)
    assert seen(instance).past.outcome == outcome
    assert not seen(instance).waits


def test_without_a_run_it_waits_for_one(instance: dg.DagsterInstance) -> None:
    assert (seen(instance).past.outcome, seen(instance).waits) == ("running", True)


def test_a_run_that_took_it_and_is_gone_was_deleted(instance: dg.DagsterInstance) -> None:
    found = seen(instance, begun="gone")
    assert (found.past.outcome, found.waits, found.past.data) == ("forgotten", False, "data of the run")


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_a_run_that_has_not_ended_is_running(instance: dg.DagsterInstance, status: str) -> None:
    made_run(instance, dg.RunRequest(job_name="weather", tags=ENTRY.tags), status)
    assert (seen(instance).past.outcome, seen(instance).waits) == ("running", False)
    assert seen(instance, minutes=6).waits == (status == "NOT_STARTED")


def test_of_two_runs_the_one_counts_that_has_taken_it(instance: dg.DagsterInstance) -> None:
    first = execute(instance)
    execute(instance, breaks=True)
    assert seen(instance).past.outcome == "failed"
    assert seen(instance, begun=first).past.outcome == "deployed"


def test_a_run_that_trains_a_model_is_told_from_one_about_its_log(instance: dg.DagsterInstance) -> None:
    def run(name: str, *keys: list[str]) -> str:
        selection = frozenset(map(dg.AssetKey, keys)) or None
        made = instance.create_run_for_job(job("a"), tags={}, status=dg.DagsterRunStatus.STARTED)
        renamed = made._replace(job_name=name, run_id=dg.DagsterRun(name).run_id, asset_selection=selection)
        return instance.add_run(renamed).run_id

    run("__ASSET_JOB", ["log", "inference_log"])
    run("back_rollback")
    trains = {
        "whole": run("whole"),
        "month": run("month_by_month"),
        "some": run("__ASSET_JOB", ["some", "trained_model"], ["some", "features"]),
    }
    found = runs_in_progress(instance, ["log", "back", *trains])
    assert {model: one.run_id for model, one in found.items()} == trains
