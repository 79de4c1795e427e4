"""What a step asks of Kubernetes: the types of the YAML's `compute`, and what the executor must know of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlops_assets.ml.values import Duration, Value, problem

Image = Literal["platform", "trainer"]
MEBIBYTES = {"Mi": 1, "Gi": 1024, "Ti": 1024**2}
Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$", examples=["512Mi", "16Gi"])]


class Retries(Value):
    """How often a step that died may start again, by what killed it."""

    infrastructure: int = Field(default=20, ge=0, description="Spot loss, eviction, a lost node, a killed pod")
    code: int = Field(default=1, ge=0, description="The process itself: out of memory, a crash")


class Compute(Value):
    """The pod of a step on Kubernetes; elsewhere it changes nothing."""

    cpu: float = Field(default=1, ge=0.001, le=1000, description="Cores that are requested; spare ones may be used too")
    memory: Quantity = Field(default="2Gi", description="Requested, and the limit")
    ephemeral_storage: Quantity = Field(default="10Gi", description="Disk for what the step fetches and writes")
    start_within: Duration = Field(
        default=timedelta(minutes=15), description="Longest wait for the pod; no room by then counts as an interruption"
    )
    retries: Retries = Field(default=Retries(), description="How often a step that died may start again")


class TrainingCompute(Compute):
    """The pod of a training."""

    workers: int = Field(default=1, ge=1, le=64, description="Pods that train together, each with what is asked here")
    gpu: int = Field(default=0, ge=0, le=16, description="GPUs of the pod; with any it runs on a gpu node")
    instance_family: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        max_length=63,
        description="Only nodes of this family, such as g5",
    )
    shared_memory: Quantity = Field(default="1Gi", description="Size of /dev/shm, part of the memory")
    spot: bool = Field(default=True, description="Spot nodes are taken where there are any; the last try is on demand")
    grace: Duration = Field(default=timedelta(minutes=2), description="Time to write a checkpoint when a node goes")

    @model_validator(mode="after")
    def _shared_memory_fits(self) -> Self:
        if "shared_memory" in self.model_fields_set and _mebibytes(self.shared_memory) > _mebibytes(self.memory):
            what = f"{self.shared_memory} is more than the pod's memory, {self.memory}, of which it is a part"
            raise problem("shared_memory", f"{what}; ask for less, or raise memory")
        return self


def _mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * MEBIBYTES[quantity[-2:]]


class PodPolicy(Value):
    """What the executor must know of a step beyond its pod: how long it may wait, and how often it may die."""

    start_within: timedelta = Compute().start_within
    retries: Retries = Compute().retries
    needs: str = "a cpu node"
    image: Image = "platform"
