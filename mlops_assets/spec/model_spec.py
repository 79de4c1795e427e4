"""The types behind a model's YAML: everything a model says about itself, checked as a whole before anything runs."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from mlops_assets.ml.automation.retrain_policy import RetrainPolicy
from mlops_assets.ml.class_source import library_of
from mlops_assets.ml.data.contract import Column, NamedColumn, Prepare, Target
from mlops_assets.ml.data.expression import columns_of_expression
from mlops_assets.ml.evaluation.metrics import GREATER_IS_BETTER, METRICS_BY_TASK, OF_THE_POSITIVE
from mlops_assets.ml.features.leakage import LeakageRule
from mlops_assets.ml.import_paths import check_import_path
from mlops_assets.ml.monitoring.monitor_policy import MonitorPolicy
from mlops_assets.ml.times import TimeZone
from mlops_assets.ml.training.training_config import NETWORK_FIELDS, TrainingConfig, nested_estimators
from mlops_assets.ml.values import LONGEST_MODEL_NAME, MODEL_NAME, Duration, Task, Value, did_you_mean, problem
from mlops_assets.spec.cron import Cron
from mlops_assets.spec.deploy import Deploy
from mlops_assets.spec.source import Source
from mlops_assets.spec.stored_view import StoredView, check_views
from resources.kubernetes.compute import Compute, TrainingCompute
from resources.serving.service_settings import ServiceSettings

if TYPE_CHECKING:
    from mlops_assets.ml.data.feature_view import FeatureView

OWNER = r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$"


class Refresh(Value):
    """When the newest values of a model's feature views are brought into the online store, beside its deployments."""

    schedule: Cron = Field(description="Cron expression of the runs, which train nothing")
    time_zone: TimeZone = Field(default="UTC", description="That of the schedule, such as Europe/Zurich")


class Features(Value):
    """What the model sees."""

    use: tuple[str, ...] = Field(min_length=1, description="Columns to learn from: number, category or boolean")
    from_store: dict[str, StoredView] = Field(
        default_factory=dict,
        description="Feature views by name: columns that rows get by entity and time, in training as in serving",
    )
    refresh: Refresh | None = Field(
        default=None, description="When the views' newest values are looked for; at each deployment alone without it"
    )
    leakage: LeakageRule = Field(
        default=LeakageRule(), description="When a feature counts as giving the target away, which stops the run"
    )

    @model_validator(mode="after")
    def _has_something_to_refresh(self) -> Self:
        if self.refresh is not None and not self.from_store:
            raise problem("refresh", "it is that of feature views, and there are none; add from_store, or remove it")
        return self

    @model_validator(mode="after")
    def _allowed_are_used(self) -> Self:
        for index, name in enumerate(self.leakage.allow):
            if name not in self.use:
                used = ", ".join(self.use)
                raise problem(
                    f"leakage.allow.{index}", f"{name} is none of the features; remove it, or use one of: {used}"
                )
        return self


class Train(TrainingConfig):
    """The network or estimator, how it is fitted, and where."""

    checkpoint_every: Duration = Field(default=timedelta(seconds=60), description="Most work that a kill may cost")
    compute: TrainingCompute = Field(default=TrainingCompute(), description="The pod of the training on Kubernetes")

    @model_validator(mode="after")
    def _fields_apply(self) -> Self:
        library = library_of(self.network)
        if library == "sklearn":
            for field in NETWORK_FIELDS:
                if field in self.model_fields_set:
                    raise problem(field, f"{self.network} is an estimator, and this field is about networks; remove it")
            if self.compute.workers > 1:
                raise problem("compute.workers", "several workers need a torch network; set it to 1 for scikit-learn")
        if library != "torch":
            for field, given in nested_estimators(self.params):
                try:
                    check_import_path(given["class"])
                except PydanticCustomError as error:
                    raise problem(f"{field}.class", error.message()) from None
        return self

    @property
    def config(self) -> TrainingConfig:
        """The part that decides the weights; of its fields those are set that the YAML sets."""
        given = self.model_fields_set & TrainingConfig.model_fields.keys()
        return TrainingConfig(**{name: getattr(self, name) for name in given})


class Gate(Value):
    """What a model must reach before it is registered."""

    metric: str = Field(
        description=f"One of {', '.join(GREATER_IS_BETTER)}, on the test set. Of two classes, "
        f"{', '.join(OF_THE_POSITIVE)} are about the positive one, see target.positive",
        json_schema_extra={"enum": list(GREATER_IS_BETTER)},
    )
    at_least: float | None = Field(default=None, description="Threshold of a metric that is better when greater")
    at_most: float | None = Field(default=None, description="Threshold of a metric that is better when smaller")
    beats_champion_by: float = Field(default=0.0, description="A candidate must be better by more than this")
    slices: tuple[str, ...] = Field(default=(), description="Columns whose values are judged each by itself")

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.metric not in GREATER_IS_BETTER:
            hint = did_you_mean(self.metric, GREATER_IS_BETTER)
            raise problem(
                "metric", f"there is no metric {self.metric}{hint}; choose one of {', '.join(GREATER_IS_BETTER)}"
            )
        wanted = "at_least" if GREATER_IS_BETTER[self.metric] else "at_most"
        other = "at_most" if wanted == "at_least" else "at_least"
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            direction = "greater" if wanted == "at_least" else "smaller"
            raise problem(wanted, f"{self.metric} is better when {direction}: give {wanted}, and not {other}")
        best = 1.0 if wanted == "at_least" else 0.0
        if self.threshold > best if wanted == "at_least" else self.threshold < best:
            raise problem(
                wanted, f"no model passes {self.threshold:g}: the best {self.metric} there can be is {best:g}"
            )
        return self

    @property
    def threshold(self) -> float:
        """The value the metric is compared with."""
        value = self.at_least if self.at_least is not None else self.at_most
        assert value is not None
        return value


class Retrain(RetrainPolicy):
    """When the whole life cycle runs again by itself: for a cause, and at times that are given."""

    schedule: Cron | None = Field(
        default=None, description="Cron expression of runs that need no cause, and that nothing but a run holds back"
    )
    time_zone: TimeZone = Field(default="UTC", description="That of the schedule, such as Europe/Zurich")

    @model_validator(mode="after")
    def _has_a_schedule(self) -> Self:
        if "time_zone" in self.model_fields_set and self.schedule is None:
            raise problem(
                "time_zone", "it is that of the schedule, and there is none; add retrain.schedule, or remove it"
            )
        return self


RETENTION_JOB, RETIREMENT_JOB = "lake_retention", "retire_model"
ROLLBACK_SUFFIX, REFRESH_SUFFIX = "_rollback", "_online_features"  # after a model's name in that of a job of it
# Folders of the lake beside those of models: what predictors read and write, what the bucket itself empties, what was
# begun by itself, the spaces
FOLDERS = ("served", "checkpoints", "inference", "labels", "traffic", "observed", "retrains", "spaces")
# What the platform puts behind a model's name
ENDINGS = {
    "_candidate": "a version that is tried beside another model",
    "_by_day": "the job of another model's days",
    "_by_month": "the job of another model's months",
    ROLLBACK_SUFFIX: "the job by which another model goes back to a version",
    REFRESH_SUFFIX: "the job that refreshes another model's feature views",
    "_monitoring": "the group of another model's inference log",
}


class ModelSpec(Value):
    """One model's whole life cycle."""

    model: str = Field(
        pattern=MODEL_NAME,
        max_length=LONGEST_MODEL_NAME,
        description="Name of the model; lower case letters and digits, and single underscores between them",
    )
    description: str = Field(default="", description="What it predicts, and for whom")
    owners: tuple[Annotated[str, Field(pattern=OWNER)], ...] = Field(
        default=(), description="Who answers for it: team:NAME or an e-mail address"
    )
    task: Task = Field(description="What kind of thing is predicted")
    source: Source = Field(description="Where the raw data lies")
    target: Target = Field(description="What is predicted")
    columns: dict[str, Column] = Field(min_length=1, description="The data contract: what each column must look like")
    prepare: Prepare = Field(default=Prepare(), description="How raw rows become rows to learn from")
    features: Features = Field(description="What the model sees")
    train: Train = Field(description="The network or estimator, how it is fitted, and where")
    gate: Gate = Field(description="What a model must reach before it is registered")
    deploy: Deploy = Field(default=Deploy(), description="How the model is served")
    monitor: MonitorPolicy = Field(default=MonitorPolicy(), description="How the traffic is watched for drift")
    retrain: Retrain | None = Field(default=None, description="When the whole life cycle runs again by itself")
    compute: Compute = Field(default=Compute(), description="The pods of all stages but the training")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        known = ", ".join(self.columns)
        event_time = self.source.event_time
        self._name_is_free()
        check_views(self.features.from_store, self.columns, self.target.column, event_time, self.features.use)
        self._names_differ()
        computed_from = {name.casefold() for name in self._target_reads()}
        columns = {column.name: column for column in self.prepared_columns}
        if event_time and (event_time not in self.columns or self.columns[event_time].type != "timestamp"):
            raise problem("source.event_time", f"{event_time} must be declared under columns as {{type: timestamp}}")
        for index, name in enumerate(self.features.use):
            where = f"features.use.{index}"
            if name == self.target.column:
                raise problem(where, f"{name} is the target; a feature may not be the target")
            if name not in columns:
                hint, declared = did_you_mean(name, columns), ", ".join(columns)
                raise problem(
                    where, f"{name} is not among the columns{hint}; declare it under columns, or use one of: {declared}"
                )
            if columns[name].type == "timestamp":
                raise problem(where, f"{name} is a timestamp; use columns of type number, category or boolean")
            if name in self.features.use[:index]:
                raise problem(where, f"{name} is used twice; remove one")
            if name.casefold() in computed_from:
                raise problem(where, f"the target is computed from {name} ({self.target.from_}); that would be leakage")
        self._target_fits(known)
        self._split_fits(known)
        self._log_fits()
        if self.gate.metric not in METRICS_BY_TASK[self.task]:
            allowed = ", ".join(METRICS_BY_TASK[self.task])
            raise problem("gate.metric", f"{self.gate.metric} does not fit {self.task}; choose one of {allowed}")
        for index, name in enumerate(self.gate.slices):
            if name not in columns or columns[name].type not in ("category", "boolean"):
                raise problem(
                    f"gate.slices.{index}",
                    f"{name} must be a category or boolean among the columns: {', '.join(columns)}",
                )
        return self

    def _name_is_free(self) -> None:
        if self.model in (RETENTION_JOB, RETIREMENT_JOB):
            what = f"{self.model} is a job of the platform, and a model's job has its name; take another"
            raise problem("model", what)
        if self.model in FOLDERS:
            raise problem("model", f"{self.model} is a folder of the lake, and a model's has its name; take another")
        for ending, whose in ENDINGS.items():
            if self.model.endswith(ending):
                raise problem("model", f"a name that ends in {ending} is that of {whose}; take another")

    def _log_fits(self) -> None:
        days = self.deploy.inference_log.keep_days
        if self.monitor.days > days:
            what = f"the log is kept for {days} days (deploy.inference_log.keep_days); shorten the window, or keep more"
            raise problem("monitor.window", what)
        for field in ("leave_out", "hash"):
            for index, name in enumerate(getattr(self.deploy.inference_log, field)):
                if name not in self.features.use:
                    hint, used = did_you_mean(name, self.features.use), ", ".join(self.features.use)
                    what = f"{name} is none of the features{hint}; requests have these alone: {used}"
                    raise problem(f"deploy.inference_log.{field}.{index}", what)

    def _split_fits(self, known: str) -> None:
        split, event_time = self.prepare.split, self.source.event_time
        if split.by == "time" and not event_time:
            raise problem("prepare.split.by", "a split by time needs source.event_time; name the column")
        if (
            event_time
            and self.columns[event_time].nullable
            and (split.by == "time" or self.source.partition_by != "none")
        ):
            what = f"a row without {event_time} is in no partition and on no side of a split by time"
            raise problem(f"columns.{event_time}.nullable", f"{what}; remove nullable, and such rows are dropped")
        if split.column and split.column not in self.columns:
            raise problem("prepare.split.column", f"{split.column} is not among the columns: {known}")

    def _names_differ(self) -> None:
        """SQL, and so DuckDB, does not tell names apart that differ in case only."""
        seen = dict[str, str]()
        for name in self.columns:
            if not name or any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
                raise problem("columns", f"{name!r} is empty or has control characters; rename it")
        for name in (*self.columns, *([self.target.column] if self.target.from_ else [])):
            twin = seen.setdefault(name.casefold(), name)
            if twin != name:
                raise problem("columns", f"{twin} and {name} differ in case only; rename one in the source")

    def _target_reads(self) -> frozenset[str]:
        return columns_of_expression(self.target.from_) if self.target.from_ else frozenset()

    def _target_fits(self, known: str) -> None:
        if self.target.from_ is None and self.target.column not in self.columns:
            raise problem(
                "target.column",
                f"{self.target.column} is not among the columns ({known}); declare it, or give target.from",
            )
        if self.target.from_ is not None:
            if self.target.column in self.columns:
                raise problem("target.column", f"{self.target.column} is a source column already; name it differently")
            reads = self._target_reads()
            if not reads:
                raise problem("target.from", f"the expression names none of the columns: {known}")
            declared = {name.casefold() for name in self.columns}
            unknown = ", ".join(sorted(name for name in reads if name.casefold() not in declared))
            if unknown:
                raise problem("target.from", f"{unknown} is not among the columns; declare it, or use one of: {known}")
        elif self.columns[self.target.column].type == "timestamp":
            raise problem("target.column", f"{self.target.column} is a timestamp; a target is a number or a class")
        if self.target.positive is not None and self.task != "binary_classification":
            raise problem("target.positive", f"{self.task} has no positive class; remove it")
        if (
            self.target.from_ is None
            and self.task == "regression"
            and self.columns[self.target.column].type != "number"
        ):
            raise problem(
                "task", f"regression needs a number; {self.target.column} is a {self.columns[self.target.column].type}"
            )

    @property
    def contract(self) -> tuple[NamedColumn, ...]:
        """The columns with their names."""
        return tuple(NamedColumn(name=name, **column.model_dump()) for name, column in self.columns.items())

    @property
    def prepared_columns(self) -> tuple[NamedColumn, ...]:
        """The columns of prepared rows: those of the source, and what feature views add."""
        views = self.features.from_store.values()
        return (*self.contract, *(column for view in views for column in view.columns))

    @property
    def service(self) -> ServiceSettings:
        """How its service is laid out in a cluster."""
        looked_up = tuple(column.name for view in self.features.from_store.values() for column in view.columns)
        deploy = self.deploy
        return ServiceSettings(
            scale=deploy.scale, resources=deploy.resources, looked_up=looked_up, expose=deploy.expose
        )

    @property
    def views(self) -> dict[str, FeatureView]:
        """The rules of the feature views, by name."""
        return {name: view.rules for name, view in self.features.from_store.items()}
