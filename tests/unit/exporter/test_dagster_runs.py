"""What a real Dagster instance says of retrains, checks, trainings and runs."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.assets.trained_model import SPEED
from mlops_assets.exporter.dagster_runs import DagsterRuns
from resources.lake.lake import Lake
from resources.lake.retrain_ledger import REASON, SCHEDULE, RetrainLedger
from tests.retraining import entry


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


class Outcome(dg.Config):
    fails: bool = False
    gate: bool = True
    beats: bool = True


@dg.asset(
    key=["iris", "evaluation"],
    check_specs=[dg.AssetCheckSpec("gate", asset=["iris", "evaluation"])],
)
def evaluation(config: Outcome) -> dg.MaterializeResult:
    if config.fails:
        raise dg.Failure("the bucket is away", allow_retries=False)
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="gate", passed=config.gate)])


@dg.asset(
    key=["iris", "deployment"],
    deps=[evaluation],
    check_specs=[dg.AssetCheckSpec("beats_champion", asset=["iris", "deployment"])],
)
def deployment(config: Outcome) -> dg.MaterializeResult:
    if not config.gate:
        raise dg.Failure("the gate failed", allow_retries=False)
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="beats_champion", passed=config.beats)])


@dg.asset(key=["iris", "trained_model"])
def trained_model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={SPEED: 1234.5} if "speed" in context.run.tags else {})


DEFINITIONS = dg.Definitions(
    assets=[evaluation, deployment, trained_model],
    jobs=[dg.define_asset_job("iris", [evaluation, deployment]), dg.define_asset_job("iris_trains", [trained_model])],
    executor=dg.in_process_executor,
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


@pytest.fixture
def runs(instance: dg.DagsterInstance, lake: Lake) -> DagsterRuns:
    return DagsterRuns(lambda: instance, lake)


def retrain(instance: dg.DagsterInstance, lake: Lake, cause: str, **outcome: bool) -> str:
    """A retrain with its entry in the ledger, and its run."""
    key = f"{cause}/{uuid.uuid4().hex}"
    decided = entry("iris", key, datetime.now(UTC)).model_copy(update={"cause": cause})
    assert RetrainLedger(lake).write(decided)
    return run(instance, decided.tags, **outcome)


def run(instance: dg.DagsterInstance, tags: dict[str, str], **outcome: bool) -> str:
    config = {"ops": {f"iris__{stage}": {"config": outcome} for stage in ("evaluation", "deployment")}}
    job = DEFINITIONS.resolve_job_def("iris")
    return job.execute_in_process(config, instance=instance, raise_on_error=False, tags=tags).run_id


def read(runs: DagsterRuns) -> dict[str, float]:
    reading = runs.read({"iris": "ann--iris"})
    assert reading.unread == 0
    return {"/".join((figure.name, *figure.labels)): figure.value for figure in reading.figures}


def of_retrains(found: dict[str, float]) -> dict[str, float]:
    """Those that are not 0."""
    start = "model_retrain_total/ann--iris/"
    return {name.removeprefix(start): value for name, value in found.items() if name.startswith(start) and value}


def test_retrains_are_counted_by_cause_and_outcome(instance: dg.DagsterInstance, lake: Lake, runs: DagsterRuns) -> None:
    assert of_retrains(read(runs)) == {}
    retrain(instance, lake, "drift")
    retrain(instance, lake, "drift", beats=False)
    retrain(instance, lake, "age", gate=False)
    retrain(instance, lake, "new data", fails=True)
    found = read(runs)
    assert of_retrains(found) == {
        "drift/deployed": 1,
        "drift/not better": 1,
        "age/gate failed": 1,
        "new data/failed": 1,
    }
    assert (found["model_retrain_failures/ann--iris"], found["model_retrains_of_week/ann--iris"]) == (2, 4)
    retrain(instance, lake, "drift")
    assert read(runs)["model_retrain_failures/ann--iris"] == 0


def test_what_has_not_happened_is_0_so_that_the_first_one_is_an_increase(runs: DagsterRuns) -> None:
    found = read(runs)
    assert found["model_retrain_total/ann--iris/drift/deployed"] == 0
    assert not [name for name in found if name.endswith("/running")]


def test_a_retrain_that_waits_for_its_run_has_no_outcome_and_is_of_the_week(lake: Lake, runs: DagsterRuns) -> None:
    RetrainLedger(lake).write(entry("iris", decided_at=datetime.now(UTC)))
    found = read(runs)
    assert (of_retrains(found), found["model_retrains_of_week/ann--iris"]) == ({}, 1)


def test_a_retrain_whose_run_is_deleted_counts_on(instance: dg.DagsterInstance, lake: Lake, runs: DagsterRuns) -> None:
    run_id = retrain(instance, lake, "drift")
    read(runs)
    instance.delete_run(run_id)
    assert of_retrains(read(runs)) == {"drift/deployed": 1}


def test_a_retrain_that_is_repaired_counts_once(instance: dg.DagsterInstance, lake: Lake, runs: DagsterRuns) -> None:
    decided = entry("iris", decided_at=datetime.now(UTC))
    RetrainLedger(lake).write(decided)
    run(instance, decided.tags, fails=True)
    assert of_retrains(read(runs)) == {"drift/failed": 1}
    run(instance, decided.tags)
    found = read(runs)
    assert of_retrains(found) == {"drift/failed": 1}, "a counter never falls"
    assert found["model_retrain_failures/ann--iris"] == 0


def test_runs_without_an_entry_are_no_retrains(instance: dg.DagsterInstance, runs: DagsterRuns) -> None:
    run(instance, {REASON: SCHEDULE})
    assert of_retrains(read(runs)) == {}


def test_the_newest_evaluation_of_a_check_counts(instance: dg.DagsterInstance, runs: DagsterRuns) -> None:
    assert not [name for name in read(runs) if name.startswith("model_check_passed")]
    run(instance, {})
    run(instance, {}, gate=False)
    found = read(runs)
    assert found["model_check_passed/ann--iris/evaluation/gate"] == 0
    assert found["model_check_passed/ann--iris/deployment/beats_champion"] == 1


def test_a_training_that_was_skipped_leaves_the_speed_of_the_one_before(
    instance: dg.DagsterInstance, runs: DagsterRuns
) -> None:
    job = DEFINITIONS.resolve_job_def("iris_trains")
    assert "model_training_rows_per_second/ann--iris" not in read(runs)
    job.execute_in_process(instance=instance, tags={"speed": "measured"})
    job.execute_in_process(instance=instance)
    assert read(runs)["model_training_rows_per_second/ann--iris"] == 1234.5


def test_runs_that_go_on_are_counted_by_their_status(instance: dg.DagsterInstance, runs: DagsterRuns) -> None:
    instance.create_run_for_job(DEFINITIONS.resolve_job_def("iris"), status=dg.DagsterRunStatus.STARTED)
    found = read(runs)
    assert {name: value for name, value in found.items() if name.startswith("dagster_runs")} == {
        "dagster_runs/queued": 0,
        "dagster_runs/starting": 0,
        "dagster_runs/started": 1,
        "dagster_runs/canceling": 0,
    }
