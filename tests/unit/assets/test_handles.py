"""Handles: kept as JSON, of a run and the latest; one's own run comes first, and other versions are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlops_assets.assets.handles import HandleIOManager, PreparedData, Snapshot, handle_key
from resources.lake.lake import Lake

if TYPE_CHECKING:
    from pathlib import Path

KEY = dg.AssetKey(["weather", "prepared_data"])
PREPARED = PreparedData(
    prefix="weather/prepared_data", version="v1", train_rows=8, validation_rows=1, test_rows=2, classes=(False, True)
)


@dg.asset(key=KEY, dagster_type=PreparedData)
def prepared_data() -> PreparedData:
    return PREPARED


@dg.asset(key=["weather", "train_rows"], ins={"prepared": dg.AssetIn(key=KEY)})
def train_rows(prepared: PreparedData) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": prepared.train_rows})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


def materialize(lake: Lake, *assets: dg.AssetsDefinition) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [prepared_data, train_rows],
        selection=list(assets),
        resources={"io_manager": HandleIOManager(lake=lake)},
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def rows(result: dg.ExecuteInProcessResult) -> Any:
    [found] = result.asset_materializations_for_node("weather__train_rows")
    return found.metadata["rows"].value


def reason(result: dg.ExecuteInProcessResult) -> str:
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
    assert "weather/prepared_data has not been materialized yet; materialize it first" in reason(result)


@pytest.mark.parametrize("content", [Snapshot(prefix="p", version="v").model_dump_json(), "{", '{"place": "p"}'])
def test_the_handle_of_another_version_of_the_code_is_told(lake: Lake, content: str) -> None:
    lake.store.replace(handle_key("weather/prepared_data"), content.encode())
    message = "weather/prepared_data was materialized by another version of mlops-assets; materialize it again."
    assert message in reason(materialize(lake, train_rows))
