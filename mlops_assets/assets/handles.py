"""What travels between assets: small typed handles that name immutable snapshots, stored as JSON."""

from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import BaseModel

from mlops_assets.ml.values import Value
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
    """An immutable folder of the lake."""

    place: str
    version: str


class PreparedData(Snapshot):
    """Clean rows, split into train and test."""

    train_rows: int
    test_rows: int
    classes: tuple[Any, ...] | None


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
    verdict: str


class RegisteredModel(Value):
    """A version in the registry, and whether it is to become champion."""

    model: str
    version: int
    sha256: str
    run_id: str
    promote: bool
    verdict: str


class HandleIOManager(dg.ConfigurableIOManager):
    """Keeps each asset's handle as JSON: one per run, so that parallel runs don't mix, and the latest."""

    lake: dg.ResourceDependency[Lake]

    def handle_output(self, context: dg.OutputContext, obj: BaseModel) -> None:
        content = obj.model_dump_json(indent=1).encode()
        place = "/".join(context.asset_key.path)
        self.lake.store.replace(f"{place}/handles/{context.run_id}.json", content)
        self.lake.store.replace(f"{place}/handles/latest.json", content)

    def load_input(self, context: dg.InputContext) -> BaseModel:
        place = "/".join(context.asset_key.path)
        run_id = context.step_context.run_id
        content = self.lake.store.read(f"{place}/handles/{run_id}.json") or self.lake.store.read(
            f"{place}/handles/latest.json"
        )
        if content is None:
            raise dg.Failure(f"{place} has not been materialized yet; materialize it first, or the whole group.")
        handle: type[BaseModel] = context.dagster_type.typing_type
        return handle.model_validate_json(content)
