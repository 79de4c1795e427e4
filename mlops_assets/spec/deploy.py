"""How a model is served: `deploy` of the YAML."""

from __future__ import annotations

from pydantic import Field

from mlops_assets.ml.values import Value
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.rollout_policy import RolloutPolicy
from resources.serving.expose import Expose
from resources.serving.service_settings import Scale, ServingResources


class Deploy(Value):
    """How the model is served."""

    inference_log: InferenceLogPolicy = Field(
        default=InferenceLogPolicy(), description="What is kept of the requests that are answered"
    )
    rollout: RolloutPolicy = Field(
        default=RolloutPolicy(), description="What a version must show beside the champion before it takes over"
    )
    explain: bool = Field(
        default=False, description="Whether /v1/models/MODEL:explain tells what each column contributed to an answer"
    )
    scale: Scale = Field(default=Scale(), description="How many pods serve the model, in a cluster")
    resources: ServingResources = Field(
        default=ServingResources(), description="What each of these pods asks for, in a cluster"
    )
    expose: Expose | None = Field(
        default=None, description="Its address in the world, behind the gateway of a cluster; without it there is none"
    )
