"""What all stages share: keys, versions, one clear message for what is wrong, and the safe skip."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from pydantic import BaseModel

from mlops_assets.assets.pods import op_tags
from mlops_assets.ml.errors import DataError, MlopsError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from mlops_assets.spec.model_spec import ModelSpec
    from resources.lake.lake import Lake

T = TypeVar("T", bound=BaseModel)

_code_changed: Any = dg.AutomationCondition.code_version_changed()
FRESH = (
    (
        dg.AutomationCondition.missing()
        | _code_changed.since_last_handled()
        | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()).since_last_handled()
    )
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)


def stage(
    spec: ModelSpec,
    name: str,
    code_version: str,
    gives: type[BaseModel],
    *inputs: str,
    checks: Sequence[dg.AssetCheckSpec],
    description: str,
) -> Callable[[Callable[..., dg.MaterializeResult[Any]]], dg.AssetsDefinition]:
    """`dg.asset` for a stage of this model that gives a handle and takes those of `inputs`."""
    arguments: dict[str, Any] = {
        "key": [spec.model, name],
        "ins": {other: dg.AssetIn(key=[spec.model, other]) for other in inputs},
        "group_name": spec.model,
        "owners": list(spec.owners) or None,
        "code_version": code_version,
        "check_specs": list(checks),
        "description": description,
        "automation_condition": FRESH if inputs else None,
        "dagster_type": gives,
        "io_manager_key": "io_manager",
        "kinds": KINDS[name],
        "op_tags": op_tags(spec, name),
        "pool": "gpu" if name == "trained_model" and spec.train.compute.gpu else None,
    }
    return dg.asset(**arguments)


KINDS = {
    "raw_data": {"s3"},
    "prepared_data": {"duckdb", "parquet"},
    "features": {"scikitlearn", "onnx"},
    "trained_model": {"pytorch", "onnx"},
    "evaluation": {"scikitlearn", "mlflow"},
    "registered_model": {"mlflow"},
    "deployment": {"kserve"},
}


def check(spec: ModelSpec, stage_name: str, name: str, description: str, blocking: bool = True) -> dg.AssetCheckSpec:
    """A check of a stage; a blocking one that fails stops everything downstream."""
    return dg.AssetCheckSpec(
        name, asset=dg.AssetKey([spec.model, stage_name]), description=description, blocking=blocking
    )


def version_of(*parts: object) -> str:
    """A version of 16 hexadecimal digits that changes when any part does."""
    text = json.dumps([_plain(part) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(part: object) -> object:
    return part.model_dump(mode="json") if isinstance(part, BaseModel) else part


@contextmanager
def told_clearly() -> Generator[None]:
    """Turn our own errors and the file system's into one message in the run, without a stack trace of libraries."""
    try:
        yield
    except MlopsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        where = f" at {error.filename}" if error.filename else ""
        raise dg.Failure(
            f"{error.strerror}{where}. Nothing was published; make room or correct the access, and run again."
        ) from error


@contextmanager
def snapshot(lake: Lake, context: dg.AssetExecutionContext, place: str, version: str) -> Generator[tuple[Path, bool]]:
    """The folder of a snapshot and whether it must be written: nothing is computed twice for the same version.

    A published snapshot counts only when all its files are there with their digests.
    """
    if lake.find(place, version) is not None:
        context.log.info(
            f"skipped: {place}/{version} exists with all its digests; inputs, code and parameters are unchanged"
        )
        yield lake.fetch(place, version), False
        return
    with lake.publishing(place, version) as folder:
        yield folder, True


def read_json(kind: type[T], path: Path) -> T:
    """A document of a snapshot."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise DataError(
            f"{path} is not a {kind.__name__}: {error}; delete the snapshot and materialize it again."
        ) from error
