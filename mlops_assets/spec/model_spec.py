"""The types behind a model's YAML: everything a model says about itself, checked as a whole before anything runs."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mlops_assets.ml.data.contract import Column, ColumnType, Split, SplitBy, Target
from mlops_assets.ml.data.windows import window
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.evaluation.metrics import GREATER_IS_BETTER, METRICS_BY_TASK
from mlops_assets.ml.values import Task, Value
from mlops_assets.spec.field_types import Cron, Duration, ImportPath, Quantity, problem

NAME = r"^[a-z][a-z0-9_]{0,62}$"
OWNER = r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$"
SOURCE_SUFFIXES = (".parquet", ".csv", ".csv.gz")


class Source(Value):
    """Where the raw data lies."""

    uri: str = Field(
        description="Objects to read: s3://bucket/prefix/*.parquet, /folder/*.csv, or relative to the lake"
    )
    event_time: str | None = Field(default=None, description="Column with the time of a row")
    partition_by: Literal["none", "day", "month"] = Field(
        default="none", description="Time partitions, by event_time, for training windows and backfills"
    )
    start: str | None = Field(
        default=None, description="First partition, such as 2013-01 or 2013-01-31; makes a job that can be backfilled"
    )
    window: int | None = Field(default=None, ge=1, description="Train on this many partitions, up to the last one")
    example: ImportPath | None = Field(
        default=None, description="A function that writes example objects into a folder when the uri holds none"
    )

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if not self.uri.endswith(SOURCE_SUFFIXES):
            raise problem("uri", f"the objects must end with one of {', '.join(SOURCE_SUFFIXES)}; end the uri so")
        scheme, _, _ = self.uri.partition("://")
        if "://" in self.uri and scheme not in ("s3", "file"):
            raise problem("uri", f"{scheme}:// is not supported; use s3://, file:// or a path relative to the lake")
        if self.partition_by != "none" and not self.event_time:
            raise problem("partition_by", f"partitions by {self.partition_by} need source.event_time; name the column")
        if self.example and ("://" in self.uri or self.uri.startswith("/")):
            raise problem("example", "an example is written into the lake only; make source.uri relative, or remove it")
        for field in ("start", "window"):
            if getattr(self, field) is not None and self.partition_by == "none":
                raise problem(field, f"a {field} is about partitions; set source.partition_by to day or month")
        if self.start is not None and self.partition_by != "none":
            try:
                window(self.start, self.partition_by, None)
            except DataError as error:
                raise problem("start", str(error)) from None
        return self


class TargetSpec(Value):
    """What is predicted."""

    column: str
    from_: str | None = Field(default=None, alias="from", description="SQL expression over source columns")


class ColumnSpec(Value):
    """What a source column must look like."""

    type: ColumnType
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    values: tuple[str, ...] | None = Field(default=None, min_length=1, description="Allowed values of a category")

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.type != "number" and (self.min is not None or self.max is not None):
            raise problem("min" if self.min is not None else "max", f"a {self.type} has no range; only numbers have")
        if self.values and self.type != "category":
            raise problem("values", f"a {self.type} has no list of values; only categories have")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise problem("min", f"min {self.min:g} is above max {self.max:g}; swap them")
        return self


class SplitSpec(Value):
    """How rows are divided into train and test."""

    by: SplitBy = "random"
    test: float = Field(default=0.2, gt=0, lt=1, description="Share of the test part")
    seed: int = Field(default=42, ge=0)
    column: str | None = Field(default=None, description="The group's column, for by: group")

    @model_validator(mode="after")
    def _column_fits(self) -> Self:
        if (self.by == "group") != (self.column is not None):
            raise problem("column", "by: group needs column, the column whose rows stay together; the others take none")
        return self


class Prepare(Value):
    """How raw rows become rows to learn from."""

    drop_nulls: bool = True
    drop_duplicates: bool = True
    split: SplitSpec = SplitSpec()


class Features(Value):
    """What the model sees."""

    use: tuple[str, ...] = Field(min_length=1)


class EarlyStopping(Value):
    """When training ends before its last epoch."""

    patience: int = Field(ge=1, description="Epochs without improvement of the validation loss")
    min_delta: float = Field(default=0.0, ge=0)


class Retries(Value):
    """How often a step that died may start again, by what killed it."""

    infrastructure: int = Field(default=20, ge=0, description="Spot loss, eviction, a lost node, a killed pod")
    code: int = Field(default=1, ge=0, description="The process itself: out of memory, a crash")


class Compute(Value):
    """The pod of a step on Kubernetes; elsewhere it changes nothing."""

    cpu: float = Field(default=1, gt=0, description="Cores that are requested; spare ones may be used too")
    memory: Quantity = Field(default="2Gi", description="Requested, and the limit")
    ephemeral_storage: Quantity = Field(default="10Gi", description="Disk for what the step fetches and writes")
    start_within: Duration = Field(default=timedelta(minutes=15), description="Fail when the pod has not started then")
    retries: Retries = Retries()


class TrainingCompute(Compute):
    """The pod of a training."""

    workers: int = Field(default=1, ge=1, le=64, description="Pods that train together, each with what is asked here")
    gpu: int = Field(default=0, ge=0, le=16, description="GPUs of the pod; with any it runs on a gpu node")
    instance_family: str | None = Field(
        default=None, pattern=r"^[a-z][a-z0-9-]*$", description="Only nodes of this family, such as g5"
    )
    shared_memory: Quantity = Field(default="1Gi", description="Size of /dev/shm, part of the memory")
    spot: bool = Field(default=True, description="Spot nodes are taken where there are any; the last try is on demand")
    grace: Duration = Field(default=timedelta(minutes=2), description="Time to write a checkpoint when a node goes")


class Train(Value):
    """The network or estimator and how it is fitted."""

    network: ImportPath = Field(description="torch.nn.Module or scikit-learn estimator, by import path")
    params: dict[str, Any] = Field(default_factory=dict)
    epochs: int = Field(default=20, ge=1, le=100_000)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=0.001, gt=0)
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="The learning rate over the epochs: constant, or falling to 0 like a cosine"
    )
    weight_decay: float = Field(default=0.0, ge=0)
    validation: float = Field(default=0.1, gt=0, lt=1, description="Share of the train rows that steers early stopping")
    early_stopping: EarlyStopping | None = None
    seed: int = Field(default=0, ge=0)
    checkpoint_every: Duration = timedelta(seconds=60)
    compute: TrainingCompute = TrainingCompute()

    @model_validator(mode="after")
    def _can_be_shared(self) -> Self:
        if self.compute.workers > 1 and self.network.startswith("sklearn."):
            raise problem("compute.workers", "several workers need a torch network; set it to 1 for scikit-learn")
        return self


class Gate(Value):
    """What a model must reach before it is registered."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    beats_champion_by: float = 0.0
    slices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.metric not in GREATER_IS_BETTER:
            raise problem("metric", f"there is no metric {self.metric}; choose one of {', '.join(GREATER_IS_BETTER)}")
        wanted = "at_least" if GREATER_IS_BETTER[self.metric] else "at_most"
        other = "at_most" if wanted == "at_least" else "at_least"
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            direction = "greater" if wanted == "at_least" else "smaller"
            raise problem(wanted, f"{self.metric} is better when {direction}: give {wanted}, and not {other}")
        return self

    @property
    def threshold(self) -> float:
        """The value the metric is compared with."""
        value = self.at_least if self.at_least is not None else self.at_most
        assert value is not None
        return value


class Retrain(Value):
    """When the whole life cycle runs again by itself."""

    schedule: Cron = Field(description="Cron expression, in UTC")


class ModelSpec(Value):
    """One model's whole life cycle."""

    model: str = Field(pattern=NAME, description="Name of the model; lower case letters, digits and underscores")
    description: str = ""
    owners: tuple[Annotated[str, Field(pattern=OWNER)], ...] = ()
    task: Task
    source: Source
    target: TargetSpec
    columns: dict[str, ColumnSpec] = Field(min_length=1)
    prepare: Prepare = Prepare()
    features: Features
    train: Train
    gate: Gate
    retrain: Retrain | None = None
    compute: Compute = Field(default=Compute(), description="The pods of all stages but the training")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        known = ", ".join(self.columns)
        event_time = self.source.event_time
        if event_time and (event_time not in self.columns or self.columns[event_time].type != "timestamp"):
            raise problem("source.event_time", f"{event_time} must be declared under columns as {{type: timestamp}}")
        for index, name in enumerate(self.features.use):
            where = f"features.use.{index}"
            if name == self.target.column:
                raise problem(where, f"{name} is the target; a feature may not be the target")
            if name not in self.columns:
                raise problem(
                    where, f"{name} is not among the columns; declare it under columns, or use one of: {known}"
                )
            if self.columns[name].type == "timestamp":
                raise problem(where, f"{name} is a timestamp; use columns of type number, category or boolean")
            if name in self.features.use[:index]:
                raise problem(where, f"{name} is used twice; remove one")
            if self.target.from_ and re.search(rf"\b{re.escape(name)}\b", self.target.from_):
                raise problem(where, f"the target is computed from {name} ({self.target.from_}); that would be leakage")
        self._target_fits(known)
        split = self.prepare.split
        if split.by == "time" and not event_time:
            raise problem("prepare.split.by", "a split by time needs source.event_time; name the column")
        if split.column and split.column not in self.columns:
            raise problem("prepare.split.column", f"{split.column} is not among the columns: {known}")
        if self.gate.metric not in METRICS_BY_TASK[self.task]:
            allowed = ", ".join(METRICS_BY_TASK[self.task])
            raise problem("gate.metric", f"{self.gate.metric} does not fit {self.task}; choose one of {allowed}")
        for index, name in enumerate(self.gate.slices):
            if name not in self.columns or self.columns[name].type not in ("category", "boolean"):
                raise problem(
                    f"gate.slices.{index}", f"{name} must be a category or boolean among the columns: {known}"
                )
        return self

    def _target_fits(self, known: str) -> None:
        if self.target.from_ is None and self.target.column not in self.columns:
            raise problem(
                "target.column",
                f"{self.target.column} is not among the columns ({known}); declare it, or give target.from",
            )
        if self.target.from_ is not None:
            if self.target.column in self.columns:
                raise problem("target.column", f"{self.target.column} is a source column already; name it differently")
            if not any(re.search(rf"\b{re.escape(name)}\b", self.target.from_) for name in self.columns):
                raise problem("target.from", f"the expression names none of the columns: {known}")
        elif self.columns[self.target.column].type == "timestamp":
            raise problem("target.column", f"{self.target.column} is a timestamp; a target is a number or a class")
        elif self.task == "regression" and self.columns[self.target.column].type != "number":
            raise problem(
                "task", f"regression needs a number; {self.target.column} is a {self.columns[self.target.column].type}"
            )

    @property
    def contract(self) -> tuple[Column, ...]:
        """The columns as the data code takes them."""
        return tuple(Column(name=name, **column.model_dump()) for name, column in self.columns.items())

    @property
    def target_value(self) -> Target:
        """The target as the data code takes it."""
        return Target(column=self.target.column, expression=self.target.from_)

    @property
    def split_value(self) -> Split:
        """The split as the data code takes it."""
        split = self.prepare.split
        column = self.source.event_time if split.by == "time" else split.column
        return Split(by=split.by, test=split.test, seed=split.seed, column=column)
