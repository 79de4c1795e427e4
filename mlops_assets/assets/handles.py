"""What travels between assets: small typed handles that name immutable snapshots, stored as JSON.

Each handle says which versions it was made from, and an input is the one of this run or of the runs it re-executes.
"""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field, ValidationError

from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.monitoring.drift_report import Status
from mlops_assets.ml.values import Classes, Value
from resources.lake.lake import Lake
from resources.lake.object_store import SourceObject

PARTITION_TAG = "dagster/partition"


class Lineage(Value):
    """What a handle was made from. `stage` fills it in."""

    versions: dict[str, str] = Field(default_factory=dict)
    """Data versions by stage, in the order of the flow, its own included."""
    partition: str | None = None
    """The last partition of the source that was used; None where partitions bound nothing."""
    until: datetime | None = None
    """The newest moment of the data that was used, UTC; None for a source without event_time."""
    failed: dict[str, str] = Field(default_factory=dict)
    """Blocking checks that failed on the way, such as evaluation.gate, and what they said."""
    overridden: dict[str, str] = Field(default_factory=dict)
    """Which of them do not count in this run, and why."""


class Handle(Value):
    """What a stage hands on."""

    lineage: Lineage = Lineage()


class RawData(Handle):
    """The source objects a run reads, pinned, and the time window of the rows it uses (end excluded, UTC)."""

    version: str
    uri: str
    source_version: str = ""
    """Of all objects at `uri`, whatever the window takes of them; none in handles of older releases."""
    objects: tuple[SourceObject, ...]
    start: datetime | None = None
    end: datetime | None = None


class Snapshot(Handle):
    """An immutable folder of the lake, `prefix/version`."""

    prefix: str
    version: str


class FeatureViews(Value):
    """The rows of the feature views, `prefix/version`.

    They are made from no other stage, and are newer than a model that goes on with the data of its own run: so they
    have no lineage that must agree with that of others. What is made from them has their version in its own.
    """

    prefix: str
    version: str
    last_event: dict[str, datetime]
    """The newest moment in each view, UTC."""


class OnlineFeatures(Value):
    """What the online store holds: the newest values of the feature views' rows of that version."""

    feature_views: str


class PreparedData(Snapshot):
    """Clean rows, split into train and test."""

    train_rows: int
    validation_rows: int
    test_rows: int
    classes: Classes | None
    target: str
    """What is predicted: `Target.definition`."""
    split_id: str
    """Two preparations with the same one put every row on the same side; by time, when their test parts begin alike."""
    test_from: datetime | None = None
    """When the test part begins, in a split by time."""


class Features(Snapshot):
    """Arrays to learn from, and the fitted preprocessing."""

    prepared: PreparedData


class TrainedModel(Snapshot):
    """One ONNX graph from raw columns to prediction."""

    sha256: str


class Comparison(Value):
    """Whether a candidate takes the champion's place, and why, judged on the same rows where that is possible."""

    champion: int | None
    """The version it was compared with; None where there was none."""
    wins: bool
    reason: str
    champion_metrics: dict[str, float] | None = None


class Evaluation(Snapshot):
    """How good the artifact is on the test part of `prepared`, and whether it beats the champion there."""

    sha256: str
    prepared: PreparedData
    metrics: dict[str, float]
    comparison: Comparison


class RegisteredModel(Handle):
    """A version in the registry, and how it was judged."""

    model: str
    version: int
    sha256: str
    run_id: str
    evaluation: Evaluation


class Deployment(Handle):
    """What answers at the endpoint now."""

    model: str
    version: int
    sha256: str
    url: str


class DriftSummary(Value):
    """The newest report about a day, for who acts on it: where it lies (`prefix/version`), and its verdicts."""

    prefix: str
    version: str
    day: date
    computed_at: datetime
    status: Status
    reason: str
    model_version: str | None
    rows: int
    labelled: int
    score: float | None
    threshold: float
    drifted: dict[str, bool]
    values: dict[str, float]
    """By column, as its method gives them."""
    metrics: dict[str, float]
    """Of the rows with a label."""
    label_delay_s: float | None = None
    """From answer to label, about the median."""


class HandleIOManager(dg.ConfigurableIOManager):
    """Keeps each asset's handle as JSON: one per run, so that parallel runs don't mix, and the latest.

    An input comes from this run, else from the runs it re-executes, the nearest first, else it is the latest. A run
    that is about a partition takes the latest of that partition only. Overridden checks are not in the latest: they
    hold for one run. All of them are the own ones of the lake's space.
    """

    lake: dg.ResourceDependency[Lake]

    def handle_output(self, context: dg.OutputContext, obj: BaseModel) -> None:
        try:
            self.lake.check_space()
        except SpecError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        prefix = self.lake.own("/".join(context.asset_key.path))
        latest = obj
        if isinstance(obj, Handle):
            latest = obj.model_copy(update={"lineage": obj.lineage.model_copy(update={"overridden": {}})})
        for key, handle in ((handle_key(prefix, context.run_id), obj), (handle_key(prefix), latest)):
            self.lake.store.replace(key, handle.model_dump_json(indent=1).encode())

    def load_input(self, context: dg.InputContext) -> BaseModel:
        prefix = "/".join(context.asset_key.path)
        run, instance = context.step_context.dagster_run, context.step_context.instance
        own = self.lake.own(prefix)
        keys = (handle_key(own, run_id) for run_id in _with_ancestors(run, instance))
        content = next(filter(None, map(self.lake.store.read, keys)), None)
        if content is not None:
            return _parsed(content, prefix, context.dagster_type.typing_type)
        content = self.lake.store.read(handle_key(own))
        if content is None:
            raise dg.Failure(f"{prefix} has not been materialized yet; materialize it first, or the whole group.")
        handle = _parsed(content, prefix, context.dagster_type.typing_type)
        wanted = partition_of_run(run, context.asset_key.path[0])
        if wanted and isinstance(handle, Handle) and handle.lineage.partition != wanted:
            found = (
                f"ends with {handle.lineage.partition}" if handle.lineage.partition else "is bounded by no partition"
            )
            raise dg.Failure(
                f"This run is about {wanted}, but the data of the latest {prefix} {found}; "
                f"materialize the whole group for {wanted}."
            )
        return handle


def partition_of_run(run: dg.DagsterRun, model: str) -> str | None:
    """The last partition of a model's source that a run asks for, by its partition or its configuration."""
    ops: Any = run.run_config.get("ops") or {}
    config = (ops.get(f"{model}__raw_data") or {}).get("config") or {}
    return run.tags.get(PARTITION_TAG) or config.get("last_partition")


def _with_ancestors(run: dg.DagsterRun, instance: dg.DagsterInstance) -> Iterator[str]:
    """The run and those it re-executes, the nearest first; of runs that were deleted only the first is known."""
    seen = set[str]()
    current: dg.DagsterRun | None = run
    while current is not None and current.run_id not in seen:
        seen.add(current.run_id)
        yield current.run_id
        parent = current.parent_run_id
        current = instance.get_run_by_id(parent) if parent else None
        if parent and current is None and parent not in seen:
            seen.add(parent)
            yield parent
    if run.root_run_id and run.root_run_id not in seen:
        yield run.root_run_id


def _parsed(content: bytes, prefix: str, kind: type[BaseModel]) -> BaseModel:
    message = f"{prefix} was materialized by another version of mlops-assets; materialize it again."
    try:
        handle = kind.model_validate_json(content)
    except ValidationError as error:
        raise dg.Failure(message) from error
    if isinstance(handle, Handle) and not handle.lineage.versions:
        raise dg.Failure(message)
    return handle


def handle_key(prefix: str, run_id: str = "latest") -> str:
    """Where a space keeps the handle of an asset, of a run or the latest."""
    return f"{prefix}/handles/{run_id}.json"
