"""Handles: kept as JSON, of a run and the latest; one's own run comes first, and other versions are told."""

# Without `from __future__ import annotations`: Dagster reads the annotations of assets

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.assets.handles import HandleIOManager, Lineage, PreparedData, Snapshot, handle_key, partition_of_run
from resources.lake.lake import Lake
from tests.support import prepared

KEY = dg.AssetKey(["weather", "prepared_data"])
LINEAGE = Lineage(versions={"prepared_data": "v1"})
PREPARED = prepared(lineage=LINEAGE)


@dg.asset(key=KEY, dagster_type=PreparedData)
def prepared_data() -> PreparedData:
    return PREPARED


@dg.asset(key=["weather", "train_rows"], ins={"rows": dg.AssetIn(key=KEY)})
def train_rows(rows: PreparedData) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": rows.train_rows})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


def materialize(
    lake: Lake, *assets: dg.AssetsDefinition, tags: dict[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [prepared_data, train_rows],
        tags=tags,
        selection=list(assets),
        resources={"io_manager": HandleIOManager(lake=lake)},
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def rows(result: dg.ExecuteInProcessResult) -> Any:
    [found] = result.asset_materializations_for_node("weather__train_rows")
    return found.metadata["rows"].value


def reason_of(result: dg.ExecuteInProcessResult) -> str:
    """What the step that could not read its input said."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.error_display_string)


def test_a_handle_is_kept_of_its_run_and_as_the_latest(lake: Lake) -> None:
    result = materialize(lake, prepared_data)
    for key in (handle_key("weather/prepared_data", result.run_id), handle_key("weather/prepared_data")):
        content = lake.store.read(key)
        assert content is not None
        assert PreparedData.model_validate_json(content) == PREPARED


def test_a_later_run_reads_the_latest(lake: Lake) -> None:
    materialize(lake, prepared_data)
    assert rows(materialize(lake, train_rows)) == 8


def test_the_handle_of_ones_own_run_comes_before_that_of_another_run(lake: Lake) -> None:
    class Overtaken(HandleIOManager):
        """Another run is faster: its handle is the latest one."""

        def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
            super().handle_output(context, obj)
            other = PREPARED.model_copy(update={"train_rows": 999})
            self.lake.store.replace(handle_key("weather/prepared_data"), other.model_dump_json().encode())

    result = dg.materialize([prepared_data, train_rows], resources={"io_manager": Overtaken(lake=lake)})
    assert rows(result) == 8


def test_what_was_never_materialized_is_told(lake: Lake) -> None:
    result = materialize(lake, train_rows)
    assert "weather/prepared_data has not been materialized yet; materialize it first" in reason_of(result)


def put(lake: Lake, rows: int, run_id: str = "latest", **lineage: Any) -> None:
    """A handle with so many train rows, of a run or the latest."""
    changed = {"train_rows": rows, "lineage": LINEAGE.model_copy(update=lineage)}
    content = PREPARED.model_copy(update=changed).model_dump_json().encode()
    lake.store.replace(handle_key("weather/prepared_data", run_id), content)


@dg.asset(key=["weather", "train_rows"], ins={"rows": dg.AssetIn(key=KEY)})
def fails_at_first(context: dg.AssetExecutionContext, rows: PreparedData) -> dg.MaterializeResult:
    if not context.run.parent_run_id or context.run.tags.get("fail"):
        raise dg.Failure("not now")
    return dg.MaterializeResult(metadata={"rows": rows.train_rows})


def failing_job() -> dg.JobDefinition:
    resources = {"io_manager": HandleIOManager(lake=Lake(**LAKE))}
    defs = dg.Definitions(
        assets=[prepared_data, fails_at_first],
        jobs=[dg.define_asset_job("weather")],
        resources=resources,
        executor=dg.in_process_executor,
    )
    return defs.resolve_job_def("weather")


LAKE: dict[str, str] = {}


def test_a_run_that_is_executed_again_from_failure_goes_on_with_what_its_parents_made(lake: Lake) -> None:
    LAKE.update(uri=lake.uri, cache=lake.cache)
    with dg.instance_for_test() as instance:
        failed = failing_job().execute_in_process(instance=instance, raise_on_error=False)
        assert not failed.success
        for tags in ({"fail": "again"}, {}):
            put(lake, 999)  # another run comes between
            options = dg.ReexecutionOptions.from_failure(failed.run_id, instance)
            with dg.execute_job(
                dg.reconstructable(failing_job), instance, tags=tags, reexecution_options=options
            ) as failed:
                pass
        assert failed.success
        [found] = failed.asset_materializations_for_node("weather__train_rows")
    assert found.metadata["rows"].value == 8


@pytest.mark.parametrize(
    ("partition", "reason"),
    [("2025-05", "ends with 2025-05"), (None, "is bounded by no partition")],
)
def test_a_run_about_a_partition_does_not_take_the_latest_of_another_one(
    lake: Lake, partition: str | None, reason: str
) -> None:
    put(lake, 8, partition=partition)
    message = f"This run is about 2025-02, but the data of the latest weather/prepared_data {reason}; materialize"
    assert message in reason_of(materialize(lake, train_rows, tags={"dagster/partition": "2025-02"}))


def test_a_partition_may_be_asked_for_by_the_configuration_of_the_models_raw_data() -> None:
    config = {"ops": {"weather__raw_data": {"config": {"last_partition": "2025-02"}}, "iris__raw_data": {}}}
    run = dg.DagsterRun(job_name="both", run_config=config)
    assert [partition_of_run(run, model) for model in ("weather", "iris", "flights")] == ["2025-02", None, None]


def test_a_run_about_a_partition_takes_the_latest_of_that_one(lake: Lake) -> None:
    put(lake, 8, partition="2025-02")
    assert rows(materialize(lake, train_rows, tags={"dagster/partition": "2025-02"})) == 8


def test_an_override_holds_for_its_run_and_is_not_in_the_latest(lake: Lake) -> None:
    lineage = Lineage(versions={"a": "1"}, failed={"a.contract": "broken"}, overridden={"a.contract": "known"})

    @dg.asset(key=KEY, dagster_type=PreparedData)
    def overridden() -> PreparedData:
        return PREPARED.model_copy(update={"lineage": lineage})

    result = dg.materialize([overridden], resources={"io_manager": HandleIOManager(lake=lake)})
    for run_id, kept in ((result.run_id, {"a.contract": "known"}), ("latest", {})):
        content = lake.store.read(handle_key("weather/prepared_data", run_id))
        assert content is not None
        found = PreparedData.model_validate_json(content).lineage
        assert (found.failed, found.overridden) == (lineage.failed, kept)


@pytest.mark.parametrize(
    "content",
    [
        Snapshot(prefix="p", version="v").model_dump_json(),
        PREPARED.model_copy(update={"lineage": Lineage()}).model_dump_json(),
        "{",
        '{"place": "p"}',
    ],
)
def test_the_handle_of_another_version_of_the_code_is_told(lake: Lake, content: str) -> None:
    lake.store.replace(handle_key("weather/prepared_data"), content.encode())
    message = "weather/prepared_data was materialized by another version of mlops-assets; materialize it again."
    assert message in reason_of(materialize(lake, train_rows))


def test_a_space_has_its_own_handles(lake: Lake) -> None:
    ann = Lake(uri=lake.uri, cache=lake.cache, space="ann")
    assert materialize(lake, prepared_data).success
    assert "has not been materialized yet" in reason_of(materialize(ann, train_rows))
    assert materialize(ann, prepared_data, train_rows).success
    assert lake.store.read(f"spaces/ann/{handle_key('weather/prepared_data')}") is not None


def test_nothing_is_handed_on_in_a_space_that_may_only_be_looked_at(lake: Lake) -> None:
    assert materialize(lake, prepared_data).success
    looks = Lake(uri=lake.uri, cache=lake.cache, owns_space=False)
    result = materialize(looks, prepared_data)
    assert not result.success
    assert "may not change what is production's" in reason_of(result)
    assert materialize(looks, train_rows).success
