"""How a model's service is laid out in a cluster, whatever version it serves: parts of `deploy` in the YAML."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mlops_assets.ml.values import Value, problem
from resources.kubernetes.compute import Quantity
from resources.serving.expose import Expose

DEFAULT_TARGETS = {"cpu": 80, "memory": 80, "concurrency": 4}


class Scale(Value):
    """How many pods answer, and by what there are more of them."""

    min_replicas: int | None = Field(
        default=None, ge=1, le=100, description="Pods that are always there; those of MLOPS_PREDICTOR_REPLICAS"
    )
    max_replicas: int | None = Field(
        default=None, ge=1, le=1000, description="The most pods under load; three times as many as there always are"
    )
    metric: Literal["cpu", "memory", "concurrency"] = Field(
        default="cpu",
        description="What the load is: the share of the requested CPU or memory in use, which needs metrics-server, or "
        "requests that are being answered at a time, which needs KEDA and Prometheus",
    )
    target: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Above which pods are added: percent of what is requested, 80; or requests in each pod, 4",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        least, most = self.min_replicas, self.max_replicas
        if least is not None and most is not None and least > most:
            raise problem("max_replicas", f"{most} is less than min_replicas, {least}; raise it")
        if self.metric != "concurrency" and self.target is not None and self.target > 100:
            what = f"{self.target} is no share of the requested {self.metric} in percent; give 1 to 100"
            raise problem("target", what)
        return self

    def replicas(self, usual: int) -> tuple[int, int]:
        """The least and the most pods, where the environment has `usual` ones."""
        least = self.min_replicas or (min(usual, self.max_replicas) if self.max_replicas else usual)
        return least, self.max_replicas or 3 * least

    @property
    def threshold(self) -> int:
        """The target, or the metric's own."""
        return self.target or DEFAULT_TARGETS[self.metric]


ONE_POD = Scale(min_replicas=1, max_replicas=1)


class ServingResources(Value):
    """What each pod that serves the model asks for."""

    cpu: float = Field(
        default=0.2, ge=0.001, le=1000, description="Cores that are requested; spare ones may be used too"
    )
    memory: Quantity | None = Field(
        default=None, description="Requested, and the limit; by the size of the model where it is not given"
    )
    gpu: int = Field(
        default=0, ge=0, le=16, description="GPUs, on a gpu node; the predictor's image must have onnxruntime-gpu"
    )


class ServiceSettings(Value):
    """All of them; who deploys without a YAML keeps those of the service that is there."""

    scale: Scale = Scale()
    resources: ServingResources = ServingResources()
    looked_up: tuple[str, ...] = ()
    """Columns that a transformer looks up, and callers leave out."""
    expose: Expose | None = None


USUAL = ServiceSettings()
