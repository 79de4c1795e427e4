"""The component `mlops_assets.ModelPipeline`: one model's YAML in, its assets, checks, jobs and schedules out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler

from mlops_assets.assets.deployment import deployment_asset
from mlops_assets.assets.drift_report import drift_report_asset
from mlops_assets.assets.evaluation import evaluation_asset
from mlops_assets.assets.feature_views import feature_views_asset
from mlops_assets.assets.features import features_asset
from mlops_assets.assets.inference_log import inference_log_asset
from mlops_assets.assets.online_features import online_features_asset
from mlops_assets.assets.prepared_data import prepared_data_asset
from mlops_assets.assets.raw_data import raw_data_asset
from mlops_assets.assets.registered_model import registered_model_asset
from mlops_assets.assets.trained_model import trained_model_asset
from mlops_assets.components.jobs_and_schedules import jobs, schedules
from mlops_assets.components.scaffold import ModelPipelineScaffolder
from mlops_assets.spec.load_spec import load_spec
from mlops_assets.spec.model_spec import ModelSpec
from mlops_assets.spec.yaml_text import check_keys
from resources.environment import Environment
from resources.serving.choose_target import check_service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster.components import ComponentLoadContext

    from mlops_assets.assets.stage import Check, Stage

STAGES: tuple[Stage, ...] = (
    raw_data_asset,
    prepared_data_asset,
    features_asset,
    trained_model_asset,
    evaluation_asset,
    registered_model_asset,
    deployment_asset,
    inference_log_asset,
    drift_report_asset,
)
STORE_STAGES: tuple[Stage, ...] = (feature_views_asset, online_features_asset)  # of models with feature views


class ModelPipelineAttributes(BaseModel):
    """What stands under `attributes` in a defs.yaml; `ModelSpec` checks it once the templates are filled in."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema of the whole spec, where Dagster nests this model in its own schema, too."""
        return handler.resolve_ref_schema(handler(ModelSpec.__pydantic_core_schema__))


@dg.scaffold_with(ModelPipelineScaffolder)
class ModelPipeline(dg.Component):
    """A model's whole life cycle, from source objects to a served prediction.

    Scaffold one with `dg scaffold defs mlops_assets.ModelPipeline NAME`. Its YAML is described by `ModelSpec`.

    A subclass may add stages and checks, or put others in their place; its YAML names it as `type`:

        class AuditedPipeline(ModelPipeline):
            def stages(self):
                return [*super().stages(), row_total]

            def checks(self):
                return [enough_rows]
    """

    def __init__(self, spec: ModelSpec, file: str = "") -> None:
        self.spec, self.file = spec, file

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return ModelPipelineAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: ComponentLoadContext) -> Self:
        resolution = context.resolution_context
        given = attributes.model_dump() if attributes else {}
        file = context.path / "defs.yaml" if context.path.is_dir() else context.path
        shown = file.relative_to(context.project_root) if file.is_relative_to(context.project_root) else file
        check_keys(file.read_text(), str(shown))
        spec = load_spec(given, resolution.source_position_tree, str(shown))
        check_service(spec.service, Environment.read(), str(shown))
        return cls(spec, str(shown))

    def stages(self) -> Sequence[Stage]:
        """What makes the assets, in the order of the flow."""
        return (*STORE_STAGES, *STAGES) if self.spec.views else STAGES

    def checks(self) -> Sequence[Check]:
        """What makes checks beside those that the stages make themselves."""
        return ()

    def build_defs(self, context: ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(
            assets=[make(self.spec) for make in self.stages()],
            asset_checks=[make(self.spec) for make in self.checks()],
            jobs=jobs(self.spec),
            schedules=schedules(self.spec),
        )
