"""raw_data: lists the source objects and pins exactly what this run reads."""

import importlib
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import ValidationError

from mlops_assets.assets.handles import Lineage, RawData
from mlops_assets.assets.stage import StageConfig, StageReport, asset_key, check, stage, version_of
from mlops_assets.assets.table_metadata import address, contract_columns, table_metadata
from mlops_assets.ml.data.source_checks import FileReport, SourceReport, check_sources, source_report
from mlops_assets.ml.data.windows import partition_of, window
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value
from mlops_assets.spec.model_spec import ModelSpec
from mlops_assets.spec.source import Source, SourceObjects
from resources.lake.lake import Lake
from resources.lake.object_store import SourceObject, digest_of
from resources.lake.retrain_ledger import RetrainLedger
from resources.lake.stores import scheme_of, split_glob
from resources.tracking.mlflow_tracking import Tracking

CODE_VERSION = "1"


class Inspections(Value):
    """What was found in the objects of a source, by ETag and key."""

    files: dict[str, FileReport]


class RawDataConfig(StageConfig):
    """What of the source this run uses."""

    last_partition: str | None = None
    """The last day (2013-06-30) or month (2013-06) to use; the newest one when not given."""


def raw_data_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The manifest of the objects that this run reads."""
    name = "raw_data"
    checks = [
        check(spec, name, "not_empty", "There are source objects, and they hold rows"),
        check(spec, name, "schema", "Every object can be read and has the contract's columns and types"),
    ]

    @stage(
        spec,
        name,
        CODE_VERSION,
        RawData,
        kinds=source_kinds(spec.source.uri),
        description="Source objects, pinned by ETag",
        checks=checks,
        is_table=True,
    )
    def raw_data(
        context: dg.AssetExecutionContext, config: RawDataConfig, lake: Lake, tracking: Tracking
    ) -> StageReport:
        tracking.warm_up(spec.model)
        objects = list_objects(spec.source, lake, context.log.info)
        source_version = digest_of(objects)
        RetrainLedger(lake).begin(context.run, spec.model, source_version)
        files = inspect(spec, lake, objects)
        sources = source_report(files, spec.contract)
        partition = last_partition(spec.source, config.last_partition, sources.last_event)
        start, end = used_window(spec.source, partition)
        objects = in_window(objects, files, start, end)
        handle = RawData(
            lineage=Lineage(partition=partition, until=data_until(end, sources.last_event)),
            version=version_of(CODE_VERSION, *objects, str(start), str(end)),
            uri=spec.source.uri,
            source_version=source_version,
            objects=tuple(objects),
            start=start,
            end=end,
        )
        table = table_metadata(
            asset_key(spec, name), address(lake, spec.source.uri), sources.rows, contract_columns(spec.contract), {}
        )
        return report(handle, sources, table)

    return raw_data


def source_kinds(uri: str) -> set[str]:
    """What the UI shows as the kind of a source: its store, where the address names one; a lake may be anywhere.

    >>> source_kinds("s3://bucket/a/*.csv"), source_kinds("a/*.csv"), source_kinds("/data/a.csv")
    ({'s3'}, set(), set())
    """
    return {scheme_of(uri)} - {"", "file"}


def report(handle: RawData, sources: SourceReport, table: Mapping[str, Any]) -> StageReport:
    """What there is to read."""
    count = len(handle.objects)
    return StageReport(
        handle,
        handle.version,
        metadata={
            "objects": count,
            "bytes": sum(item.size for item in handle.objects),
            **table,
            "window": f"{handle.start or 'beginning'} to {handle.end or 'end'}",
            "extra_columns": ", ".join(sources.extra_columns) or "none",
            "manifest": dg.MetadataValue.json([item.model_dump() for item in handle.objects[:1000]]),
        },
        checks=[
            dg.AssetCheckResult(check_name="not_empty", passed=True, metadata={"objects": count, "rows": sources.rows}),
            dg.AssetCheckResult(check_name="schema", passed=True),
        ],
    )


def list_objects(source: SourceObjects, lake: Lake, log: Callable[[str], None]) -> list[SourceObject]:
    """The objects of the source; where there are none and the source names an example, that is written first."""
    objects = lake.list_sources(source.uri)
    if not objects and source.example:
        log(f"{source.uri} holds no objects yet; writing the example data of {source.example} there")
        write_example(source, lake)
        objects = lake.list_sources(source.uri)
    if not objects:
        raise DataError(f"There are no objects at {source.uri}", remedy="put data there, or correct source.uri")
    if all(item.size == 0 for item in objects):
        raise DataError(f"All {len(objects)} objects at {source.uri} are empty", remedy="put data there")
    return objects


def write_example(source: SourceObjects, lake: Lake) -> None:
    """Write the example's files into the lake, beside the pattern of the source."""
    assert source.example is not None
    module, _, name = source.example.rpartition(".")
    write = getattr(importlib.import_module(module), name)
    folder, _ = split_glob(source.uri)
    with tempfile.TemporaryDirectory() as draft:
        write(Path(draft))
        for file in sorted(Path(draft).iterdir()):
            lake.store.upload(file, f"{folder}/{file.name}" if folder else file.name)


def inspect(spec: ModelSpec, lake: Lake, objects: list[SourceObject]) -> list[FileReport]:
    """What each object holds. One that was compared with this contract before is not read again."""
    contract = version_of(CODE_VERSION, *spec.contract, spec.source.csv, spec.source.event_time)
    key = f"{spec.model}/raw_data/inspected/{contract}.json"
    known = _known(lake.store.read(key))
    fresh = [item for item in objects if _identity(item) not in known]
    if fresh:
        with lake.sources(spec.source.uri, fresh) as paths:
            found = check_sources(paths, spec.contract, event_time=spec.source.event_time, csv=spec.source.csv)
        known = known | {_identity(item): file for item, file in zip(fresh, found, strict=True)}
        listed = {_identity(item) for item in objects}
        kept = Inspections(files={name: file for name, file in known.items() if name in listed})
        lake.store.replace(key, kept.model_dump_json().encode())
    return [known[_identity(item)] for item in objects]


def _known(content: bytes | None) -> dict[str, FileReport]:
    """What was written down; nothing where it is damaged or of another version, since all can be read again."""
    try:
        return Inspections.model_validate_json(content).files if content else {}
    except ValidationError:
        return {}


def _identity(item: SourceObject) -> str:
    return f"{item.etag} {item.key}"


def in_window(
    objects: list[SourceObject], files: list[FileReport], start: datetime | None, end: datetime | None
) -> list[SourceObject]:
    """The objects that hold rows of the window: others are not read any more."""
    if end is None:
        return objects
    inside = [
        item
        for item, file in zip(objects, files, strict=True)
        if file.first_event is not None
        and file.last_event is not None
        and file.first_event < end.replace(tzinfo=None)
        and (start is None or file.last_event >= start.replace(tzinfo=None))
    ]
    if not inside:
        remedy = "widen source.window, or choose another last_partition"
        raise DataError("No row lies in the time window", remedy=remedy)
    return inside


def last_partition(source: Source, wanted: str | None, last_event: datetime | None) -> str | None:
    """The last partition to use: the one that is wanted, or that of the newest row; None is all rows."""
    if source.partition_by == "none":
        if wanted:
            what = f"This source has no partitions, so {wanted} means nothing"
            raise DataError(what, remedy="set source.partition_by")
        return None
    if wanted or source.window is None or last_event is None:
        return wanted
    return partition_of(last_event, source.partition_by)


def used_window(source: Source, partition: str | None) -> tuple[datetime | None, datetime | None]:
    """Start and end of the rows to use, up to and with the last partition; (None, None) is all of them."""
    if partition is None or source.partition_by == "none":
        return None, None
    return window(partition, source.partition_by, source.window)


def data_until(end: datetime | None, last_event: datetime | None) -> datetime | None:
    """The newest moment of the rows that are used, UTC: by it, newer data is told from older data."""
    if last_event is None:
        return None
    newest = last_event.replace(tzinfo=UTC) if last_event.tzinfo is None else last_event
    return newest if end is None else min(newest, end)
