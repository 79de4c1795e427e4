"""What all stages share: keys and versions, the safe skip, the report, and one clear message for what is wrong.

A stage module has `<stage>_asset(spec)`, which reads aloud what the stage does; its plan, its work and its report are
functions of values and folders, without Dagster's context.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import operator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg
from pydantic import BaseModel, Field

from mlops_assets.assets.handles import Handle
from mlops_assets.assets.lineage import check_override, joined_lineage, own_lineage, with_override
from mlops_assets.assets.pod_template import op_tags
from mlops_assets.assets.table_metadata import table_name
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
    settles_overrides: bool = False
    """Whether the overridden checks before it are written down here, so that they bind nothing after it."""


class StageConfig(dg.Config):
    """What a run may say about a stage."""

    override: dict[str, str] = Field(default_factory=dict)
    """Checks of this stage that do not count in this run, each with the reason, which goes to the ledger."""


def up_to_date(model: str, source_of_change: str) -> dg.AutomationCondition[dg.AssetKey]:
    """A stage is to be made when its code or one of its inputs changed, together with all that is made from it.

    `source_of_change` is the input that is made from all others, or from what they are made from: by it, a stage is
    asked for in the same tick, and so in the same run, as what lies between. No stage runs on an input that is being
    made, or that a blocking check has stopped.
    """
    triggers, changed, handled, ready = _conditions()
    last = dg.AssetSelection.assets(dg.AssetKey([model, source_of_change]))
    return functools.reduce(operator.and_, ready, (triggers | changed.allow(last)).since(handled))


@functools.cache
def _conditions() -> tuple[Any, Any, Any, Any]:
    """The parts that all stages share: hundreds of models have thousands of stages."""
    condition: Any = dg.AutomationCondition
    triggers = condition.newly_missing() | condition.code_version_changed()
    changed = condition.any_deps_match(condition.data_version_changed() | condition.will_be_requested())
    # Not since_last_handled(): that forgets what is missing when the sensor is first turned on
    handled = condition.newly_requested() | condition.newly_updated()
    ready = (
        ~condition.any_deps_missing(),
        ~condition.any_deps_in_progress(),
        ~condition.in_progress(),
        condition.all_deps_blocking_checks_passed(),
    )
    return triggers, changed, handled, ready


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
    is_table: bool = False,
    after: Sequence[str] = (),
) -> Callable[[Callable[..., StageReport]], dg.AssetsDefinition]:
    """`dg.asset` for a stage of this model that hands on a handle of `output_type` and takes those of `inputs`.

    The last of `inputs` is the one that is made from the others; `after` are stages that hand nothing on. The function
    may take `context`, `config` (a `StageConfig`), handles and resources, as any asset. It runs when its inputs belong
    together: no two are made from different versions of a stage, and no blocking check has stopped one. Errors that are
    raised on purpose fail the step with their sentence alone.
    """
    arguments: dict[str, Any] = {
        "key": asset_key(spec, name),
        "ins": {other: dg.AssetIn(key=asset_key(spec, other)) for other in inputs},
        "deps": [asset_key(spec, other) for other in after],
        "group_name": spec.model,
        "owners": list(spec.owners) or None,
        "code_version": code_version,
        "check_specs": list(checks),
        "description": description,
        "metadata": table_name(asset_key(spec, name)) if is_table else None,
        "automation_condition": up_to_date(spec.model, inputs[-1]) if inputs else None,
        "dagster_type": output_type,
        "io_manager_key": "io_manager",
        "kinds": kinds,
        "op_tags": op_tags(spec, name),
        "pool": "gpu" if name == "trained_model" and spec.train.compute.gpu else None,
    }

    def decorate(function: Callable[..., StageReport]) -> dg.AssetsDefinition:
        signature = inspect.signature(function, eval_str=True)
        takes_config = "config" in signature.parameters
        stops = {spec.name for spec in checks if spec.blocking}

        @functools.wraps(function)
        def execute(*args: Any, **kwargs: Any) -> dg.MaterializeResult[Any]:
            config: StageConfig = kwargs["config"] if takes_config else kwargs.pop("config")
            handles = {other: kwargs[other] for other in inputs if isinstance(kwargs[other], Handle)}
            with as_dagster_failure():
                check_override(name, config.override, [spec.name for spec in checks])
                inherited = joined_lineage(spec.model, handles)
                report = function(*args, **kwargs)
            results = [with_override(result, config.override) for result in report.checks]
            handle = report.handle
            if isinstance(handle, Handle):
                before = inherited.model_copy(
                    update={"failed": {}, "overridden": {}} if report.settles_overrides else {}
                )
                blocking = [result for result in report.checks if result.check_name in stops]
                lineage = own_lineage(name, report.version, before, handle.lineage, blocking, config.override)
                handle = handle.model_copy(update={"lineage": lineage})
            return dg.MaterializeResult(
                value=handle,
                data_version=dg.DataVersion(report.version),
                metadata=report.metadata,
                check_results=results,
            )

        # Dagster reads what the function takes, and would take the report for the asset's type
        shown: Any = execute
        parameters = list(signature.parameters.values())
        annotations = inspect.get_annotations(function, eval_str=True)
        if not takes_config:
            parameters.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, annotation=StageConfig))
            annotations["config"] = StageConfig
        shown.__signature__ = signature.replace(parameters=parameters, return_annotation=dg.MaterializeResult)
        execute.__annotations__ = annotations | {"return": dg.MaterializeResult}
        return dg.asset(**arguments)(execute)

    return decorate


def check(spec: ModelSpec, stage_name: str, name: str, description: str, blocking: bool = True) -> dg.AssetCheckSpec:
    """A check that a stage makes itself; a blocking one that fails stops everything downstream, unless overridden."""
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
