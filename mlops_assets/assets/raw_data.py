"""raw_data: lists the source objects and pins exactly what this run reads."""

import importlib
import tempfile
from datetime import datetime
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import RawData
from mlops_assets.assets.stage import check, stage, told_clearly, version_of
from mlops_assets.ml.data.source_checks import SourceReport, check_sources
from mlops_assets.ml.data.windows import partition_of, window
from mlops_assets.ml.errors import DataError
from mlops_assets.spec.model_spec import ModelSpec, Source
from resources.lake.lake import Lake, split_glob
from resources.lake.object_store import SourceObject
from resources.tracking.mlflow_tracking import Tracking

CODE_VERSION = "1"


class RawDataConfig(dg.Config):
    """What of the source this run uses."""

    last_partition: str | None = None
    """The last day (2013-06-30) or month (2013-06) to use; the newest one when not given."""


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    checks = [
        check(spec, "raw_data", "not_empty", "There are source objects, and they hold rows"),
        check(spec, "raw_data", "schema", "Every object can be read and has the contract's columns and types"),
    ]

    @stage(spec, "raw_data", CODE_VERSION, RawData, checks=checks, description="Source objects, pinned by ETag")
    def raw_data(
        context: dg.AssetExecutionContext, config: RawDataConfig, lake: Lake, tracking: Tracking
    ) -> dg.MaterializeResult:
        with told_clearly():
            tracking.warm_up()
            objects = list_objects(spec.source, lake, context)
            report = inspect(spec, lake, objects)
            start, end = used_window(spec.source, config.last_partition, report.last_event)
            version = version_of(CODE_VERSION, *objects, str(start), str(end))
            handle = RawData(version=version, uri=spec.source.uri, objects=tuple(objects), start=start, end=end)
        return dg.MaterializeResult(
            value=handle,
            data_version=dg.DataVersion(version),
            metadata={
                "objects": len(objects),
                "bytes": sum(item.size for item in objects),
                "dagster/row_count": report.rows,
                "window": f"{start or 'beginning'} to {end or 'end'}",
                "extra_columns": ", ".join(report.extra_columns) or "none",
                "manifest": dg.MetadataValue.json([item.model_dump() for item in objects[:1000]]),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="not_empty", passed=True, metadata={"objects": len(objects), "rows": report.rows}
                ),
                dg.AssetCheckResult(check_name="schema", passed=True),
            ],
        )

    return raw_data


def list_objects(source: Source, lake: Lake, context: dg.AssetExecutionContext) -> list[SourceObject]:
    """The objects of the source; where there are none and the source names an example, that is written first."""
    objects = lake.list_sources(source.uri)
    if not objects and source.example:
        context.log.info(f"{source.uri} holds no objects yet; writing the example data of {source.example} there")
        write_example(source, lake)
        objects = lake.list_sources(source.uri)
    if not objects:
        raise DataError(f"There are no objects at {source.uri}; put data there, or correct source.uri.")
    if all(item.size == 0 for item in objects):
        raise DataError(f"All {len(objects)} objects at {source.uri} are empty; put data there.")
    return objects


def write_example(source: Source, lake: Lake) -> None:
    """Write the example's files into the lake, beside the pattern of the source."""
    assert source.example is not None
    module, _, name = source.example.rpartition(".")
    write = getattr(importlib.import_module(module), name)
    folder, _ = split_glob(source.uri)
    with tempfile.TemporaryDirectory() as draft:
        write(Path(draft))
        for file in sorted(Path(draft).iterdir()):
            lake.store.upload(file, f"{folder}/{file.name}")


def inspect(spec: ModelSpec, lake: Lake, objects: list[SourceObject]) -> SourceReport:
    """Read every object's schema and compare it with the contract."""
    with lake.sources(spec.source.uri, objects) as paths:
        return check_sources(paths, spec.contract, event_time=spec.source.event_time)


def used_window(
    source: Source, last_partition: str | None, last_event: datetime | None
) -> tuple[datetime | None, datetime | None]:
    """Start and end of the rows to use; (None, None) is all of them."""
    if source.partition_by == "none":
        if last_partition:
            raise DataError(
                f"This source has no partitions, so {last_partition} means nothing; set source.partition_by."
            )
        return None, None
    if last_partition is None:
        if source.window is None or last_event is None:
            return None, None
        last_partition = partition_of(last_event, source.partition_by)
    return window(last_partition, source.partition_by, source.window)
