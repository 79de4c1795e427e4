"""The component: what it defines, and how a subclass adds a stage and a blocking check, as its docstring shows."""

# Without `from __future__ import annotations`: Dagster resolves annotations in the module of `stage`

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox
from pydantic import create_model

import mlops_assets
from mlops_assets.assets.handles import PreparedData
from mlops_assets.assets.stage import Check, Stage, StageReport, asset_key, stage
from mlops_assets.components.model_pipeline import STAGES, STORE_STAGES, ModelPipeline, ModelPipelineAttributes
from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.values import Value
from mlops_assets.spec.load_spec import load_spec
from mlops_assets.spec.model_spec import ModelSpec
from tests.stored_views import stored
from tests.support import Platform, attributes, check_results, messages, spec, weather

UP_TO_FEATURES = ("raw_data", "prepared_data", "features", "row_total")


class RowTotal(Value):
    """The handle of the stage that is added."""

    rows: int


def row_total(spec: ModelSpec) -> dg.AssetsDefinition:
    @stage(spec, "row_total", "1", RowTotal, "prepared_data", kinds={"python"}, description="Rows that are left")
    def row_total(prepared_data: PreparedData) -> StageReport:
        rows = prepared_data.train_rows + prepared_data.test_rows
        return StageReport(RowTotal(rows=rows), version=prepared_data.version, metadata={"rows": rows})

    return row_total


def enough_rows(spec: ModelSpec) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset_key(spec, "prepared_data"), blocking=True)
    def enough_rows(prepared_data: PreparedData) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=prepared_data.train_rows >= 1000)

    return enough_rows


class AuditedPipeline(ModelPipeline):
    """A stage and a check more than all models have."""

    def stages(self) -> Sequence[Stage]:
        return [*super().stages(), row_total]

    def checks(self) -> Sequence[Check]:
        return [enough_rows]


@pytest.fixture
def audited(tmp_path: Path, mlflow_uri: str) -> Platform:
    """A platform whose models are audited; nothing here needs its model server."""
    return Platform(tmp_path, mlflow_uri, pipeline=AuditedPipeline)


def run(platform: Platform) -> dg.ExecuteInProcessResult:
    return platform.run(asset_selection=[dg.AssetKey([platform.model, name]) for name in UP_TO_FEATURES])


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key}


def test_a_model_has_an_asset_for_each_stage_and_a_job(tmp_path: Path) -> None:
    platform = Platform(tmp_path, "http://127.0.0.1:1")
    graph = platform.definitions(platform.spec()).resolve_asset_graph()
    assert {key.path[-1] for key in graph.materializable_asset_keys} == {
        make(platform.spec()).key.path[-1] for make in STAGES
    }
    assert platform.definitions(platform.spec()).resolve_job_def(platform.model)


def test_a_model_with_feature_views_has_the_stages_of_the_store_too(tmp_path: Path) -> None:
    platform = Platform(tmp_path, "http://127.0.0.1:1")
    model = load_spec(stored(), None, "defs.yaml")
    graph = platform.definitions(model).resolve_asset_graph()
    assert {key.path[-1] for key in graph.materializable_asset_keys} == {
        make(model).key.path[-1] for make in (*STORE_STAGES, *STAGES)
    }


def test_the_schema_for_editors_is_the_specs_also_where_dagster_nests_it() -> None:
    wanted = ModelSpec.model_json_schema()["properties"]
    assert ModelPipelineAttributes.model_json_schema()["properties"] == wanted
    nested = create_model("Component", attributes=(ModelPipelineAttributes, ...)).model_json_schema()
    assert nested["$defs"]["ModelPipelineAttributes"]["properties"] == wanted


def test_attributes_are_kept_as_they_are_until_templates_are_filled_in() -> None:
    assert ModelPipelineAttributes.model_validate({"model": "x", "more": 1}).model_dump() == {"model": "x", "more": 1}


def test_the_component_is_found_under_its_short_name_without_loading_it_before() -> None:
    assert mlops_assets.ModelPipeline is ModelPipeline
    assert "ModelPipeline" in dir(mlops_assets)
    with pytest.raises(AttributeError):
        _ = mlops_assets.NoSuchName


def test_a_subclass_adds_a_stage_and_a_check_to_what_all_models_have(audited: Platform) -> None:
    graph = audited.definitions(audited.spec()).resolve_asset_graph()
    names = {key.path[-1] for key in graph.materializable_asset_keys}
    assert names == {make(audited.spec()).key.path[-1] for make in STAGES} | {"row_total"}
    [added] = [key for key in graph.asset_check_keys if key.name == "enough_rows"]
    assert added.asset_key == asset_key(audited.spec(), "prepared_data")
    assert graph.get_check_spec(added).blocking


def test_the_added_stage_and_check_run_with_the_model(audited: Platform) -> None:
    audited.put(weather(2_000))
    result = run(audited)
    assert result.success, messages(result)
    assert materialized(result) == set(UP_TO_FEATURES)
    assert result.output_for_node(f"{audited.model}__row_total").rows > 1_900
    assert check_results(result)["enough_rows"].passed


def test_an_added_check_that_fails_blocks_what_is_downstream(audited: Platform) -> None:
    audited.put(weather(400))
    result = run(audited)
    assert not result.success
    assert not check_results(result)["enough_rows"].passed
    assert materialized(result) == {"raw_data", "prepared_data"}


@pytest.mark.parametrize(("documented", "used"), [(Stage, row_total), (Check, enough_rows)], ids=["stage", "check"])
def test_the_example_of_the_docstring_is_the_one_that_is_tested(documented: Any, used: Any) -> None:
    example = (documented.__doc__ or "").partition("smallest one:\n\n")[2]
    assert inspect.cleandoc(example) == inspect.cleandoc(inspect.getsource(used))


def test_a_yaml_names_the_subclass_as_its_type() -> None:
    content = {"type": f"{__name__}.AuditedPipeline", "attributes": attributes()}
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=AuditedPipeline, defs_yaml_contents=content)
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, AuditedPipeline)
            assert "row_total" in {asset.key.path[-1] for asset in defs.assets}


def test_a_mistake_in_a_yaml_is_told_with_its_file_and_line() -> None:
    content = {"type": f"{__name__}.AuditedPipeline", "attributes": attributes(train__epochs=0)}
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=AuditedPipeline, defs_yaml_contents=content)
        with (
            pytest.raises(Exception, match="Error while loading component") as caught,
            sandbox.load_component_and_build_defs(defs_path=path),
        ):
            pytest.fail("it must not load")
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, SpecError):
        cause = cause.__cause__
    assert cause is not None
    assert re.search(r"defs\.yaml:\d+$", cause.where.rpartition(": ")[0])
    assert cause.where.endswith("train.epochs")


FLOW = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")


class Automation:
    """The stages of a model under Dagster's automation, tick by tick, without running them."""

    def __init__(self, home: Path) -> None:
        self.defs = Platform(home, mlflow_uri="unused").definitions(spec())
        graph = self.defs.resolve_asset_graph()
        self.checks = {
            key: [check.name for check in graph.get_check_keys_for_assets({key})] for key in graph.get_all_asset_keys()
        }
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: Any = None
        self.tick()  # the first one looks only

    def tick(self) -> list[str]:
        """The stages that are asked for in the next tick, in the order of the flow."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return [name for name in FLOW if result.get_num_requested(asset_key(spec(), name))]

    def made(self, version: str, *names: str, failed: str | None = None) -> None:
        """Report that stages were materialized with a data version, and that their checks passed but the failed one."""
        for name in names or FLOW:
            key, tags = asset_key(spec(), name), {"dagster/data_version": version}
            self.instance.report_runless_asset_event(dg.AssetMaterialization(key, tags=tags))
            for found in self.checks[key]:
                check = dg.AssetCheckEvaluation(asset_key=key, check_name=found, passed=found != failed, metadata={})
                self.instance.report_runless_asset_event(check)


@pytest.fixture
def automation(tmp_path: Path) -> Automation:
    found = Automation(tmp_path)
    found.made("1")
    while found.tick():
        pass
    return found


AFTER_PREPARED = ["features", "trained_model", "evaluation", "registered_model", "deployment"]


def test_what_is_made_of_new_rows_is_asked_for_together(automation: Automation) -> None:
    automation.made("2", "prepared_data")
    assert automation.tick() == AFTER_PREPARED
    assert automation.tick() == []
    automation.made("2", *AFTER_PREPARED)
    assert [automation.tick() for _ in range(3)] == [[], [], []]


def test_new_source_objects_ask_for_all_that_follows(automation: Automation) -> None:
    automation.made("2", "raw_data")
    assert automation.tick() == ["prepared_data", *AFTER_PREPARED]


def test_a_sensor_that_is_turned_on_asks_for_what_is_missing_and_then_for_nothing_more(tmp_path: Path) -> None:
    automation = Automation(tmp_path)
    automation.made("1", "raw_data", "prepared_data")
    automation.cursor = None  # as it was not on yet
    assert automation.tick() == AFTER_PREPARED
    assert [automation.tick() for _ in range(2)] == [[], []]


def test_a_sensor_that_is_turned_on_asks_for_nothing_that_is_there(automation: Automation) -> None:
    automation.cursor = None
    assert [automation.tick() for _ in range(2)] == [[], []]


def test_what_is_wiped_is_asked_for(automation: Automation) -> None:
    automation.instance.wipe_assets([asset_key(spec(), "evaluation")])
    assert "evaluation" in automation.tick()


def test_the_same_rows_ask_for_nothing(automation: Automation) -> None:
    automation.made("1", "raw_data", "prepared_data")
    assert automation.tick() == []


def test_a_run_of_everything_asks_for_nothing_more(automation: Automation) -> None:
    for name in FLOW:
        automation.made("2", name)
    assert [automation.tick() for _ in range(2)] == [[], []]


def test_what_fails_is_asked_for_once(automation: Automation) -> None:
    automation.made("2", "prepared_data")
    assert "features" in automation.tick()
    assert [automation.tick() for _ in range(3)] == [[], [], []]


def test_nothing_is_made_of_what_a_blocking_check_has_stopped(automation: Automation) -> None:
    automation.made("2", "prepared_data", failed="contract")
    assert automation.tick() == []


def test_a_new_model_that_misses_the_gate_asks_for_nothing_and_the_next_one_asks_again(automation: Automation) -> None:
    automation.made("2", "prepared_data", "features", "trained_model")
    automation.made("2", "evaluation", failed="gate")
    assert automation.tick() == []
    automation.made("3", "prepared_data")
    assert automation.tick() == AFTER_PREPARED
