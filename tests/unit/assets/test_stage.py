"""What all stages share: the report as Dagster shows it, one message for what is wrong, versions, and the safe skip."""

# Without `from __future__ import annotations`: Dagster resolves annotations in the module of `stage`

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.assets.handles import Handle, HandleIOManager
from mlops_assets.assets.stage import StageReport, as_dagster_failure, asset_key, check, snapshot, stage, version_of
from mlops_assets.ml.errors import DataError, LakeError
from resources.lake.lake import Lake
from tests.support import failure, spec


class Total(Handle):
    """The handle of the stages here."""

    rows: int


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


def total(work: Callable[[], int]) -> dg.AssetsDefinition:
    """A stage that counts by `work` and checks that there is something."""
    model = spec(owners=["team:sky"])
    some = check(model, "total", "some", "There are rows")

    @stage(model, "total", "3", Total, kinds={"python"}, description="Rows", checks=[some])
    def total() -> StageReport:
        rows = work()
        passed = dg.AssetCheckResult(check_name="some", passed=rows > 0)
        return StageReport(Total(rows=rows), f"v{rows}", {"rows": rows}, [passed])

    return total


def doubled() -> dg.AssetsDefinition:
    """A stage that takes the handle of the other."""

    @stage(spec(), "doubled", "1", Total, "total", kinds={"python"}, description="Twice the rows")
    def doubled(total: Total) -> StageReport:
        return StageReport(Total(rows=2 * total.rows), "v")

    return doubled


def materialize(
    lake: Lake, *assets: dg.AssetsDefinition, override: dict[str, str] | None = None, only: str | None = None
) -> dg.ExecuteInProcessResult:
    """Run the stages, or `only` one of them; `override` is about the checks of `total`."""
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if override:
        config["ops"] = {"weather__total": {"config": {"override": override}}}
    resources = {"io_manager": HandleIOManager(lake=lake)}
    selection = dg.AssetSelection.assets(asset_key(spec(), only)) if only else None
    return dg.materialize(
        list(assets), resources=resources, raise_on_error=False, run_config=config, selection=selection
    )


def test_a_report_becomes_handle_data_version_metadata_and_checks(lake: Lake) -> None:
    result = materialize(lake, total(lambda: 3), doubled())
    assert result.success
    [shown] = result.asset_materializations_for_node("weather__total")
    assert shown.metadata["rows"].value == 3
    assert shown.tags is not None
    assert shown.tags["dagster/data_version"] == "v3"
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.passed) == ("some", True)
    made = result.output_for_node("weather__doubled")
    assert (made.rows, made.lineage.versions) == (6, {"total": "v3", "doubled": "v"})


def test_a_blocking_check_that_fails_stops_what_is_downstream(lake: Lake) -> None:
    result = materialize(lake, total(lambda: 0), doubled())
    assert not result.success
    assert result.asset_materializations_for_node("weather__doubled") == []


def test_a_stage_stands_in_its_models_group_with_owners_and_code_version() -> None:
    [found] = total(lambda: 1).specs
    assert (found.key, found.group_name, found.owners) == (asset_key(spec(), "total"), "weather", ["team:sky"])
    assert (found.code_version, found.description) == ("3", "Rows")


def test_only_a_stage_with_inputs_materializes_itself() -> None:
    assert total(lambda: 1).specs_by_key[asset_key(spec(), "total")].automation_condition is None
    assert doubled().specs_by_key[asset_key(spec(), "doubled")].automation_condition is not None


def test_an_error_raised_on_purpose_is_the_steps_one_message(lake: Lake) -> None:
    def broken() -> int:
        raise DataError("it is empty", where="a.csv", remedy="put data there")

    result = materialize(lake, total(broken))
    assert failure(result) == "a.csv: it is empty; put data there."
    [event] = [event for event in result.all_events if event.is_step_failure]
    shown = {name: value.value for name, value in event.step_failure_data.user_failure_data.metadata.items()}
    assert shown == {"what": "it is empty", "where": "a.csv", "remedy": "put data there"}


@pytest.mark.parametrize(("error", "again"), [(DataError("empty"), False), (LakeError("away"), True)])
def test_only_what_may_pass_by_itself_is_tried_again(error: Exception, again: bool) -> None:
    with pytest.raises(dg.Failure) as caught, as_dagster_failure():
        raise error
    assert caught.value.allow_retries is again


def test_an_error_of_the_file_system_names_the_path(tmp_path: Path) -> None:
    message = rf"No such file or directory at {tmp_path}/a\. Nothing was published"
    with pytest.raises(dg.Failure, match=message), as_dagster_failure():
        (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("error", [OSError("a library's own"), KeyError("a bug")])
def test_any_other_error_keeps_its_stack_trace(error: Exception) -> None:
    with pytest.raises(type(error)), as_dagster_failure():
        raise error


def test_a_version_changes_with_any_part_and_with_nothing_else() -> None:
    parts: list[Any] = ["1", Total(rows=3), {"a": 1, "b": (1, 2)}, None]
    version = version_of(*parts)
    assert len(version) == 16
    assert int(version, 16) >= 0
    assert version == version_of("1", Total(rows=3), {"b": [1, 2], "a": 1}, None)
    others = [version_of("2", *parts[1:]), version_of("1", Total(rows=4), *parts[2:]), version_of(*parts, "more")]
    assert len({version, *others}) == 4


def test_a_snapshot_is_filled_once_and_then_skipped(lake: Lake) -> None:
    logged: list[str] = []

    def work(folder: Path) -> None:
        (folder / "a.txt").write_text("content")

    with snapshot(lake, logged.append, "weather/total", "v1", work) as (folder, is_new):
        assert ((folder / "a.txt").read_text(), is_new) == ("content", True)
    with snapshot(lake, logged.append, "weather/total", "v1", lambda _: pytest.fail("work ran twice")) as (folder, new):
        assert ((folder / "a.txt").read_text(), new) == ("content", False)
    assert [line.split(":")[0] for line in logged] == ["skipped"]


def test_a_snapshot_whose_work_fails_is_not_there(lake: Lake) -> None:
    def work(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise DataError("it is empty")

    with pytest.raises(DataError), snapshot(lake, lambda _: None, "weather/total", "v1", work):
        pytest.fail("the block must not run")
    assert lake.find("weather/total", "v1") is None


POSTPONED = """
from __future__ import annotations

from mlops_assets.assets.stage import StageReport, stage
from mlops_assets.ml.values import Value


class Count(Value):
    rows: int


def count(spec):
    @stage(spec, "count", "1", Count, kinds={"python"}, description="Rows")
    def count(context: dg.AssetExecutionContext) -> StageReport:
        return StageReport(Count(rows=1), "1")

    return count


import dagster as dg
"""


def test_a_stage_may_stand_in_a_module_that_postpones_annotations() -> None:
    module: dict[str, Any] = {"__name__": "postponed"}
    exec(POSTPONED, module)
    assert module["count"](spec()).key.path[-1] == "count"


def test_a_check_that_is_overridden_in_a_run_stops_nothing_in_it(lake: Lake) -> None:
    override = {"some": "the holidays have no rows"}
    result = materialize(lake, total(lambda: 0), doubled(), override=override)
    assert result.success
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "Overridden in this run: the holidays have no rows" in str(evaluation.description)
    assert not materialize(lake, total(lambda: 0), doubled()).success, "the next run has no override"


def test_nothing_goes_on_in_another_run_from_a_check_that_failed_or_was_overridden(lake: Lake) -> None:
    for override in ({}, {"some": "known"}):
        materialize(lake, total(lambda: 0), override=override)
        assert "The check some of total failed" in failure(
            materialize(lake, total(lambda: 0), doubled(), only="doubled")
        )


def test_a_check_that_the_stage_does_not_have_cannot_be_overridden(lake: Lake) -> None:
    result = materialize(lake, total(lambda: pytest.fail("it ran")), override={"any": "why not"})
    assert failure(result) == "total has no check any to override; its checks are some."
