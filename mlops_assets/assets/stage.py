"""What all stages share: keys and versions, the safe skip, the report, and one clear message for what is wrong.

A stage module has `<stage>_asset(spec)`, which reads aloud what the stage does; its plan, its work and its report are
functions of values and folders, without Dagster's context.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg
from pydantic import BaseModel

from mlops_assets.assets.pod_template import op_tags
from mlops_assets.ml.errors import MlopsError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from mlops_assets.spec.model_spec import ModelSpec
    from resources.lake.lake import Lake


class Stage(Protocol):
    """Makes an asset of a model from its spec; `ModelPipeline.stages` lists them. The smallest one:

    def row_total(spec: ModelSpec) -> dg.AssetsDefinition:
        @stage(spec, "row_total", "1", RowTotal, "prepared_data", kinds={"python"}, description="Rows that are left")
        def row_total(prepared_data: PreparedData) -> StageReport:
            rows = prepared_data.train_rows + prepared_data.test_rows
            return StageReport(RowTotal(rows=rows), version=prepared_data.version, metadata={"rows": rows})

        return row_total
    """

    def __call__(self, spec: ModelSpec) -> dg.AssetsDefinition: ...


class Check(Protocol):
    """Makes a check of one of a model's assets from its spec; `ModelPipeline.checks` lists them. The smallest one:

    def enough_rows(spec: ModelSpec) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=asset_key(spec, "prepared_data"), blocking=True)
        def enough_rows(prepared_data: PreparedData) -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=prepared_data.train_rows >= 1000)

        return enough_rows
    """

    def __call__(self, spec: ModelSpec) -> dg.AssetChecksDefinition: ...


@dataclass(frozen=True)
class StageReport:
    """What a stage hands on, its data version, and what Dagster shows of it."""

    handle: BaseModel
    version: str
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checks: Sequence[dg.AssetCheckResult] = ()


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


def asset_key(spec: ModelSpec, stage_name: str) -> dg.AssetKey:
    """The key of a stage's asset."""
    return dg.AssetKey([spec.model, stage_name])


def stage(
    spec: ModelSpec,
    name: str,
    code_version: str,
    output_type: type[BaseModel],
    *inputs: str,
    kinds: set[str],
    description: str,
    checks: Sequence[dg.AssetCheckSpec] = (),
) -> Callable[[Callable[..., StageReport]], dg.AssetsDefinition]:
    """`dg.asset` for a stage of this model that hands on a handle of `output_type` and takes those of `inputs`.

    The function may take `context`, `config`, handles and resources, as any asset. Errors that are raised on purpose
    fail the step with their sentence alone.
    """
    arguments: dict[str, Any] = {
        "key": asset_key(spec, name),
        "ins": {other: dg.AssetIn(key=asset_key(spec, other)) for other in inputs},
        "group_name": spec.model,
        "owners": list(spec.owners) or None,
        "code_version": code_version,
        "check_specs": list(checks),
        "description": description,
        "automation_condition": FRESH if inputs else None,
        "dagster_type": output_type,
        "io_manager_key": "io_manager",
        "kinds": kinds,
        "op_tags": op_tags(spec, name),
        "pool": "gpu" if name == "trained_model" and spec.train.compute.gpu else None,
    }

    def decorate(function: Callable[..., StageReport]) -> dg.AssetsDefinition:
        @functools.wraps(function)
        def execute(*args: Any, **kwargs: Any) -> dg.MaterializeResult[Any]:
            with as_dagster_failure():
                report = function(*args, **kwargs)
            return dg.MaterializeResult(
                value=report.handle,
                data_version=dg.DataVersion(report.version),
                metadata=report.metadata,
                check_results=report.checks,
            )

        # Dagster reads what the function takes, and would take the report for the asset's type
        shown: Any = execute
        signature = inspect.signature(function, eval_str=True)
        shown.__signature__ = signature.replace(return_annotation=dg.MaterializeResult)
        annotations = inspect.get_annotations(function, eval_str=True)
        execute.__annotations__ = annotations | {"return": dg.MaterializeResult}
        return dg.asset(**arguments)(execute)

    return decorate


def check(spec: ModelSpec, stage_name: str, name: str, description: str, blocking: bool = True) -> dg.AssetCheckSpec:
    """A check that a stage makes itself; a blocking one that fails stops everything downstream."""
    return dg.AssetCheckSpec(name, asset=asset_key(spec, stage_name), description=description, blocking=blocking)


def version_of(*parts: object) -> str:
    """A version of 16 hexadecimal digits that changes when any part does.

    >>> version_of("1", "a") == version_of("1", "a"), version_of("1", "a") == version_of("1", "b")
    (True, False)
    """
    text = json.dumps([_as_json(part) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_json(part: object) -> object:
    return part.model_dump(mode="json") if isinstance(part, BaseModel) else part


@contextmanager
def as_dagster_failure() -> Generator[None]:
    """Turn our own errors and the file system's into one message in the run, without a stack trace of libraries."""
    try:
        yield
    except MlopsError as error:
        parts = {"what": error.what, "where": error.where, "remedy": error.remedy}
        metadata = {name: dg.MetadataValue.text(text) for name, text in parts.items() if text}
        raise dg.Failure(str(error), metadata, allow_retries=error.retryable) from error
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        where = f" at {error.filename}" if error.filename else ""
        raise dg.Failure(
            f"{error.strerror}{where}. Nothing was published; make room or correct the access, and run again."
        ) from error


@contextmanager
def snapshot(
    lake: Lake, log: Callable[[str], None], prefix: str, version: str, work: Callable[[Path], None]
) -> Generator[tuple[Path, bool]]:
    """The folder of a snapshot, and whether `work` has just filled it: nothing is computed twice for the same version.

    A published snapshot counts only when all its files are there with their digests. A new one is published when the
    block ends well.
    """
    manifest = lake.find(prefix, version)
    if manifest is not None:
        log(f"skipped: {prefix}/{version} exists with all its digests; inputs, code and parameters are unchanged")
        yield lake.local_folder(manifest), False
        return
    with lake.publishing(prefix, version) as folder:
        work(folder)
        yield folder, True
