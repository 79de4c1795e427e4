"""Retention on the whole platform: what no version, alias or run needs goes, and the platform works on."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import dagster as dg
import pytest

from mlops_assets.components import retention
from mlops_assets.components.retention import (
    JOB,
    RetentionConfig,
    kept_versions,
    lake_retention,
    retain,
    run_in_progress,
    weekly_retention,
)
from mlops_assets.ml.errors import LakeError, TrackingError
from resources.lake.lake import Lake
from resources.lake.lake_lock import lake_lock
from resources.lake.retention import survey
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import VersionTags
from tests.support import Platform, failure, free_port, messages, weather

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_assets.spec.model_spec import ModelSpec

NOW = RetentionConfig(dry_run=False, older_than_days=0)
ABANDONED: dict[str, Any] = {
    "prepare": {"split": {"by": "random", "test": 0.3, "validation": 0.1, "seed": 7}},
    "gate": {"metric": "accuracy", "at_least": 1.0},
}
ABANDONED_VERSION = "0123456789abcdef"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.long)])
def trained(
    request: pytest.FixtureRequest, tmp_path: Path, mlflow_uri: str
) -> Iterator[tuple[Platform, ModelSpec, set[str]]]:
    """A model trained three times, its latest spec, and the places of the training that the gate has stopped."""
    lake: dict[str, Any] = {}
    if request.param == "s3":
        lake = {"lake_uri": "s3://retention/lake", "endpoint_url": request.getfixturevalue("s3_endpoint")}
        client = boto3.client("s3", endpoint_url=lake["endpoint_url"], region_name="us-east-1")
        client.create_bucket(Bucket="retention")
    platform = Platform(tmp_path, mlflow_uri, **lake)
    platform.put(weather())
    assert platform.run().success
    first = places(platform)
    stopped = platform.run(platform.spec(**ABANDONED))
    assert not stopped.success
    abandoned = places(platform) - first
    spec = platform.spec(train__params={"C": 0.01}, gate__beats_champion_by=-1.0)
    result = platform.run(spec)
    assert result.success, messages(result)
    assert (len(abandoned), platform.champion()) == (4, 2)
    platform.serving.stop()  # it has stored its inference log, and writes nothing while a test looks
    yield platform, spec, abandoned
    platform.serving.server.stop()


def places(platform: Platform) -> set[str]:
    """The snapshots that lie in the lake."""
    return {*survey(platform.lake.store)[platform.model].versions}


def objects_of_snapshots(platform: Platform) -> set[str]:
    """Every object of every snapshot; one that is made again lies in another folder."""
    versions = survey(platform.lake.store)[platform.model].versions
    return {item.key for parts in versions.values() for item in parts.values()}


def run_job(platform: Platform, **config: Any) -> dg.ExecuteInProcessResult:
    """The job as a user starts it."""
    definitions = dg.Definitions.merge(platform.definitions(platform.spec()), dg.Definitions(jobs=[lake_retention]))
    return definitions.resolve_job_def(JOB).execute_in_process(
        instance=platform.instance,
        raise_on_error=False,
        run_config={"ops": {"delete_unneeded": {"config": config}}} if config else {},
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def all_of(platform: Platform) -> dict[str, int]:
    return {item.key: item.size for item in platform.lake.store.stored() if JOB not in item.key}


def test_what_an_abandoned_training_owns_goes_and_the_model_lives_on(
    trained: tuple[Platform, ModelSpec, set[str]],
) -> None:
    platform, spec, abandoned = trained
    platform.lake.store.replace(f"{platform.model}/features/notes.txt", b"of somebody else")
    before = all_of(platform)

    dry = run_job(platform, older_than_days=0)
    assert dry.success, messages(dry)
    told = metadata(dry)
    assert {record.data["what"] for record in told["unneeded"].records} == {
        f"{platform.model}/{place}" for place in abandoned
    }
    assert "this was a dry run" in told["summary"]
    assert all_of(platform) == before

    assert run_job(platform, dry_run=False).success  # all is younger than 14 days
    assert all_of(platform) == before

    wet = run_job(platform, dry_run=False, older_than_days=0)
    assert wet.success, messages(wet)
    gone = {key: size for key, size in before.items() if key not in all_of(platform)}
    assert {"/".join(key.split("/")[1:3]) for key in gone} == abandoned
    assert sum(gone.values()) <= metadata(wet)["bytes"]  # and the cache's

    kept = objects_of_snapshots(platform)
    again = platform.run(spec)
    assert again.success, messages(again)
    assert objects_of_snapshots(platform) == kept  # every stage has skipped its work
    shutil.rmtree(platform.serving.models)
    deployed = platform.materialize("deployment", model=spec)
    assert deployed.success, messages(deployed)
    assert platform.served() == "2"
    assert platform.materialize("registered_model", model=spec).success
    assert platform.lake.entries(f"{platform.model}/ledger")[-1]["version"] == 2
    assert not platform.run(platform.spec(**ABANDONED)).success
    assert places(platform) >= abandoned  # made again, as it was


@pytest.mark.long
@pytest.mark.parametrize("trained", ["folder"], indirect=True)
def test_versions_without_an_alias_keep_what_they_were_made_from_unless_the_rule_is_narrower(
    trained: tuple[Platform, ModelSpec, set[str]],
) -> None:
    platform, _, abandoned = trained
    narrow = retain(
        platform.instance,
        platform.lake,
        platform.tracking,
        RetentionConfig(older_than_days=0, keep_versions=1),
    )
    found = {one.what.partition("/")[2] for one in narrow.unneeded[platform.model]}
    # Version 1 has a training and an evaluation of its own; it shares data and features with version 2
    assert {place.partition("/")[0] for place in found - abandoned} == {"trained_model", "evaluation"}
    assert found >= abandoned


def found_by(platform: Platform, **resources: Any) -> retention.Retention:
    lake, tracking = resources.get("lake", platform.lake), resources.get("tracking", platform.tracking)
    return retain(platform.instance, lake, tracking, NOW)


@pytest.fixture
def once(platform: Platform) -> Platform:
    """A model that was trained once, beside an abandoned snapshot."""
    platform.put(weather(200))
    assert platform.run().success
    with platform.lake.publishing(f"{platform.model}/features", ABANDONED_VERSION) as folder:
        (folder / "x.npy").write_bytes(b"abandoned")
    platform.serving.stop()  # as above
    return platform


def is_there(platform: Platform) -> bool:
    return platform.lake.find(f"{platform.model}/features", ABANDONED_VERSION) is not None


def test_nothing_goes_when_mlflow_cannot_be_asked(once: Platform) -> None:
    nowhere = Tracking(uri=f"http://127.0.0.1:{free_port()}", lake=once.lake)
    before = all_of(once)
    with pytest.raises(TrackingError, match="cannot be reached"):
        found_by(once, tracking=nowhere)
    once.tracking = nowhere
    result = run_job(once, dry_run=False, older_than_days=0)
    assert "cannot be reached" in failure(result)
    assert all_of(once) == before


def test_nothing_of_a_model_goes_that_this_mlflow_does_not_know(once: Platform) -> None:
    once.tracking.client.delete_registered_model(once.model)
    before = all_of(once)
    found = found_by(once)
    assert "its ledger ends with version 1, which MLflow at" in found.kept[once.model]
    assert all_of(once) == before
    assert any(once.model in line and "nothing is deleted" in line for line in found.lines())


def create_run(platform: Platform, job: str, selection: set[dg.AssetKey] | None = None) -> str:
    """A run that somebody has begun."""
    status = dg.DagsterRunStatus.STARTED
    run = dg.DagsterRun(job_name=job, status=status, asset_selection=frozenset(selection) if selection else None)
    return platform.instance.add_run(run).run_id


def test_nothing_of_a_model_goes_while_a_run_of_it_is_in_progress(once: Platform) -> None:
    run_id = create_run(once, "__ASSET_JOB", {dg.AssetKey([once.model, "features"])})
    assert f"run {run_id} is in progress (STARTED)" in found_by(once).kept[once.model]
    assert is_there(once)
    once.instance.delete_run(run_id)
    create_run(once, "__ASSET_JOB", {dg.AssetKey(["another", "features"])})
    found = found_by(once)
    assert found.kept == {}
    assert not is_there(once)
    assert [one.what for one in found.unneeded[once.model]] == [f"{once.model}/features/{ABANDONED_VERSION}"]


@pytest.mark.parametrize(
    ("job", "busy"),
    [
        ("m", True),
        ("m_by_month", True),
        ("m_rollback", True),
        ("m_online_features", True),
        ("other_rollback", False),
        ("other", False),
        ("everything", True),
        (JOB, False),
    ],
)
def test_a_run_is_about_the_models_that_its_job_names_or_about_all(job: str, busy: bool) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_run(dg.DagsterRun(job_name=job, status=dg.DagsterRunStatus.STARTING))
        now = datetime.now(UTC) + timedelta(hours=1)
        assert (run_in_progress(instance, "m", {"m", "other"}, now) is not None) == busy


def test_a_run_that_begins_during_a_deletion_finds_what_was_there(
    once: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = type(once.lake.store).delete_many

    def and_a_run_begins(store: Any, keys: list[str]) -> None:
        really(store, keys)
        assert not is_there(once)
        create_run(once, once.model)

    monkeypatch.setattr(type(once.lake.store), "delete_many", and_a_run_begins)
    assert "is in progress" in found_by(once).kept[once.model]
    assert is_there(once)


def test_a_run_of_another_dagster_instance_is_known_by_what_it_makes(
    once: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = retention.versions_in_handles

    def and_a_run_ends(*arguments: Any) -> set[str]:
        found = really(*arguments)
        once.instance = dg.DagsterInstance.ephemeral()
        assert once.materialize("raw_data").success
        return found

    instance = once.instance
    monkeypatch.setattr(retention, "versions_in_handles", and_a_run_ends)
    found = retain(instance, once.lake, once.tracking, NOW)
    assert found.kept == {once.model: "a run has made something of it meanwhile"}
    assert is_there(once)


def test_of_two_at_once_one_is_refused(once: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOCK_WAIT_S", 0)
    other = Lake(uri=once.lake.uri, cache=once.lake.cache)
    with lake_lock(other.store, JOB, wait_s=1), pytest.raises(LakeError, match=f"The lock of {JOB} was held"):
        found_by(once)
    assert is_there(once)


@pytest.fixture
def ann(once: Platform, tmp_path: Path) -> Iterator[Platform]:
    """A person's machine, which has trained the model in another way."""
    (tmp_path / "ann").mkdir()
    made = Platform(tmp_path / "ann", once.mlflow_uri, lake_uri=once.lake.uri, space="ann", model=once.model)
    result = made.run(made.spec(**ABANDONED | {"gate": {"metric": "accuracy", "at_least": 0.5}}))
    assert result.success, messages(result)
    yield made
    made.serving.server.stop()


@pytest.mark.long
def test_what_any_space_needs_stays_until_the_space_is_gone(once: Platform, ann: Platform) -> None:
    before, abandoned = places(once), f"features/{ABANDONED_VERSION}"
    found = found_by(once)
    assert (found.kept, before - places(once)) == ({}, {abandoned})

    # Of a handle that was lost, the version in MLflow still tells what it was made from
    once.lake.store.delete_many([item.key for item in once.lake.store.stored("spaces/ann") if "handles" in item.key])
    assert found_by(once).kept == {}
    assert before - places(once) == {abandoned}

    ann.tracking.client.delete_registered_model(f"ann--{ann.model}")
    told = found_by(once).kept[once.model]
    assert "its ledger ends with version 1, which MLflow at" in told
    assert told.endswith(f"delete the folder spaces/ann/{once.model} of the lake")

    once.lake.store.delete_many([item.key for item in once.lake.store.stored("spaces/ann")])
    assert found_by(once).kept == {}
    assert {place.partition("/")[0] for place in before - places(once) - {abandoned}} == {
        *("prepared_data", "features", "trained_model", "evaluation")
    }
    assert once.run().success


@pytest.mark.long
def test_a_retention_of_one_space_spares_what_others_need(once: Platform, ann: Platform) -> None:
    before = places(once)
    assert found_by(ann).kept == {}
    assert before - places(once) == {f"features/{ABANDONED_VERSION}"}


def test_retentions_of_two_spaces_are_not_at_work_at_once(once: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOCK_WAIT_S", 0)
    theirs = once.lake.model_copy(update={"space": "ann"})
    with lake_lock(once.lake.store, JOB, wait_s=1), pytest.raises(LakeError, match=f"The lock of {JOB} was held"):
        found_by(once, lake=theirs)


def test_versions_with_an_alias_and_the_newest_keep_their_data() -> None:
    versions = [
        VersionTags(version=n, tags={}, aliases=("champion",) if n == 1 else (), registered_at=datetime.now(UTC))
        for n in (4, 3, 2, 1)
    ]
    assert [version.version for version in kept_versions(versions, None)] == [4, 3, 2, 1]
    assert [version.version for version in kept_versions(versions, 2)] == [4, 3, 1]


def test_the_schedule_deletes_and_waits_to_be_turned_on() -> None:
    assert weekly_retention.default_status == dg.DefaultScheduleStatus.STOPPED
    defs = dg.Definitions(
        jobs=[lake_retention],
        schedules=[weekly_retention],
        resources={
            "lake": Lake(uri="/x", cache="/x"),
            "tracking": Tracking(uri="http://x", lake=Lake(uri="", cache="")),
        },
    )
    job = defs.resolve_job_def(JOB)
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 1, 4, 4, tzinfo=UTC))
    [request] = weekly_retention.evaluate_tick(context).run_requests or []
    assert dg.validate_run_config(job, request.run_config)["ops"]["delete_unneeded"]["config"]["dry_run"] is False
    assert dg.validate_run_config(job)["ops"]["delete_unneeded"]["config"]["dry_run"] is True
