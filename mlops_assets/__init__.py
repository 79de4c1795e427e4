"""One YAML file per model: the whole machine-learning life cycle as Dagster assets."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_assets.components.model_pipeline import ModelPipeline

__all__ = ["ModelPipeline"]


def __getattr__(name: str) -> Any:
    """Import the component only when it is asked for, so that a predictor never imports Dagster."""
    if name == "ModelPipeline":
        from mlops_assets.components.model_pipeline import ModelPipeline

        return ModelPipeline
    raise AttributeError(name)


def __dir__() -> list[str]:
    """The names `dg` looks through for components."""
    return [*globals(), *__all__]
