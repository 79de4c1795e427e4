"""What travels between assets: small typed handles that name immutable snapshots, stored as JSON."""

from datetime import datetime

import dagster as dg
from pydantic import BaseModel, ValidationError

from mlops_assets.ml.values import Classes, Value
from resources.lake.lake import Lake
from resources.lake.object_store import SourceObject


class RawData(Value):
    """The source objects a run reads, pinned, and the time window of the rows it uses (end excluded, UTC)."""

    version: str
    uri: str
    objects: tuple[SourceObject, ...]
    start: datetime | None = None
    end: datetime | None = None


class Snapshot(Value):
    """An immutable folder of the lake, `prefix/version`."""

    prefix: str
    version: str


class PreparedData(Snapshot):
    """Clean rows, split into train and test."""

    train_rows: int
    validation_rows: int
    test_rows: int
    classes: Classes | None


class Features(Snapshot):
    """Arrays to learn from, and the fitted preprocessing."""

    prepared: PreparedData


class TrainedModel(Snapshot):
    """One ONNX graph from raw columns to prediction."""

    sha256: str


class Evaluation(Snapshot):
    """How good the artifact is, and how good the champion is on the same rows."""

    sha256: str
    metrics: dict[str, float]
    champion_metrics: dict[str, float] | None
    beats_champion: bool
    decision: str


class RegisteredModel(Value):
    """A version in the registry, and whether it is to become champion."""

    model: str
    version: int
    sha256: str
    run_id: str
    promote: bool
    decision: str


class Deployment(Value):
    """What answers at the endpoint now."""

    model: str
    version: int
    sha256: str
    url: str


class HandleIOManager(dg.ConfigurableIOManager):
    """Keeps each asset's handle as JSON: one per run, so that parallel runs don't mix, and the latest."""

    lake: dg.ResourceDependency[Lake]

    def handle_output(self, context: dg.OutputContext, obj: BaseModel) -> None:
        content = obj.model_dump_json(indent=1).encode()
        prefix = "/".join(context.asset_key.path)
        for key in (handle_key(prefix, context.run_id), handle_key(prefix)):
            self.lake.store.replace(key, content)

    def load_input(self, context: dg.InputContext) -> BaseModel:
        prefix = "/".join(context.asset_key.path)
        keys = (handle_key(prefix, context.step_context.run_id), handle_key(prefix))
        content = next(filter(None, map(self.lake.store.read, keys)), None)
        if content is None:
            raise dg.Failure(f"{prefix} has not been materialized yet; materialize it first, or the whole group.")
        handle: type[BaseModel] = context.dagster_type.typing_type
        try:
            return handle.model_validate_json(content)
        except ValidationError as error:
            raise dg.Failure(
                f"{prefix} was materialized by another version of mlops-assets; materialize it again."
            ) from error


def handle_key(prefix: str, run_id: str = "latest") -> str:
    """Where the lake keeps the handle of an asset, of a run or the latest."""
    return f"{prefix}/handles/{run_id}.json"
