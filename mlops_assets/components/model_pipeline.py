"""The component `mlops_assets.ModelPipeline`: one model's YAML in, its assets, checks, jobs and schedules out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict

from mlops_assets.assets import (
    deployment,
    evaluation,
    features,
    prepared_data,
    raw_data,
    registered_model,
    trained_model,
)
from mlops_assets.components.jobs_and_schedules import jobs, schedules
from mlops_assets.components.scaffold import ModelPipelineScaffolder
from mlops_assets.spec.load_spec import load_spec
from mlops_assets.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from dagster.components import ComponentLoadContext

STAGES = (raw_data, prepared_data, features, trained_model, evaluation, registered_model, deployment)


class ModelPipelineAttributes(BaseModel):
    """What stands under `attributes` in a defs.yaml; `ModelSpec` checks it once the templates are filled in."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return ModelSpec.model_json_schema(*args, **kwargs)


@dg.scaffold_with(ModelPipelineScaffolder)
class ModelPipeline(dg.Component):
    """A model's whole life cycle, from source objects to a served prediction.

    Scaffold one with `dg scaffold defs mlops_assets.ModelPipeline NAME`. Its YAML is described by `ModelSpec`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return ModelPipelineAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: ComponentLoadContext) -> Self:
        resolution = context.resolution_context
        given = attributes.model_dump() if attributes else {}
        file = context.path / "defs.yaml" if context.path.is_dir() else context.path
        if file.is_relative_to(context.project_root):
            file = file.relative_to(context.project_root)
        return cls(load_spec(dict(resolution.resolve_value(given)), resolution.source_position_tree, str(file)))

    def build_defs(self, context: ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(
            assets=[stage.build(self.spec) for stage in STAGES],
            jobs=jobs(self.spec),
            schedules=schedules(self.spec),
        )
