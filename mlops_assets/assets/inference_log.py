"""inference_log: what was asked and answered on a day, as one table, with the labels that have come since.

It is in a group of its own: a run of the model's group has no day.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from mlops_assets.assets.pod_template import op_tags
from mlops_assets.assets.stage import as_dagster_failure, asset_key, snapshot, version_of
from mlops_assets.assets.table_metadata import address, table_metadata, table_name
from mlops_assets.ml.monitoring.compact_log import DayOfLog, compact
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake
from resources.lake.object_store import SourceObject
from resources.serving.golden_rows import PROOF_ID

CODE_VERSION = "1"
STAGE = "inference_log"
DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_offset=1)  # today can be looked at, too
AN_HOUR_PAST_MIDNIGHT = "0 1 * * *"  # servers have stored what they held at midnight
DATED = re.compile(r"(?:inference|labels)/[^/]+/(\d{4})/(\d{2})/(\d{2})/\d{2}/[^/]+")
COMPACTED = re.compile(rf"[^/]+/(?:{STAGE}|drift_report)/(\d{{4}})-(\d{{2}})-(\d{{2}})/.+")


def inference_log_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The log of each day."""

    @dg.asset(
        key=asset_key(spec, STAGE),
        deps=[asset_key(spec, "deployment")],
        group_name=f"{spec.model}_monitoring",
        owners=list(spec.owners) or None,
        code_version=CODE_VERSION,
        partitions_def=DAYS,
        automation_condition=yesterday(),
        description="What was asked and answered on a day, with the labels that have come since",
        metadata=table_name(asset_key(spec, STAGE)),
        kinds={"parquet", "duckdb"},
        op_tags=op_tags(spec, STAGE),
    )
    def inference_log(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult[Any]:
        day = date.fromisoformat(context.partition_key)
        with as_dagster_failure():
            lake.check_space()  # it deletes what is old
            model = lake.name_of(spec.model)
            table = day_table(lake, context.log.info, model, day)
            first = datetime.now(UTC).date() - timedelta(days=spec.deploy.inference_log.keep_days)
            old = list(past_retention(lake, model, first))
            lake.store.delete_many(old)
        if old:
            context.log.info(f"deleted {len(old)} objects of days before {first}")
        return dg.MaterializeResult(data_version=dg.DataVersion(table.version), metadata=_metadata(spec, lake, table))

    return inference_log


class DayTable(NamedTuple):
    """The table of a day: its place in the lake, what it holds, and the number of files that it was made of."""

    prefix: str
    version: str
    found: DayOfLog
    files: int


def day_table(lake: Lake, log: Callable[[str], None], model: str, day: date) -> DayTable:
    """The table of a day with the labels that have come, made unless it is there; `model` is its name in the lake."""
    logs, labels = log_objects(lake, model, day), label_objects(lake, model, day)
    version, prefix = version_of(CODE_VERSION, *logs, *labels), f"{model}/{STAGE}/{day}"

    def work(folder: Path) -> None:
        with lake.sources("inference", logs) as asked, lake.sources("labels", labels) as told:
            compact(asked, told, folder, without=PROOF_ID)

    with snapshot(lake, log, prefix, version, work) as (folder, _):
        return DayTable(prefix, version, DayOfLog.read(folder), len(logs))


def yesterday() -> dg.AutomationCondition[Any]:
    """Of the days, the one that has just ended."""
    condition = dg.AutomationCondition
    ended = condition.in_latest_time_window(timedelta(days=2)) & ~condition.in_latest_time_window()
    return ended & condition.cron_tick_passed(AN_HOUR_PAST_MIDNIGHT).since_last_handled()


def log_objects(lake: Lake, model: str, day: date) -> list[SourceObject]:
    """The servers' files of a day."""
    return lake.store.list(f"inference/{model}/{day:%Y/%m/%d}/**/*.parquet")


def label_objects(lake: Lake, model: str, day: date) -> list[SourceObject]:
    """The files that may hold labels of a day: what servers were told since, and tables that lie there otherwise."""
    objects = lake.store.list(f"labels/{model}/**/*.parquet")
    return [item for item in objects if (told := _day_of(item.key, DATED)) is None or told >= day]


def past_retention(lake: Lake, model: str, first: date) -> Iterator[str]:
    """The keys of what is of days before `first`; manifests first, so that no reader finds half a table."""
    for kind in ("inference", "labels"):
        yield from _older(lake, f"{kind}/{model}", DATED, first)
    for stage in (STAGE, "drift_report"):
        yield from sorted(_older(lake, f"{model}/{stage}", COMPACTED, first), key=lambda key: "manifest" not in key)


def _older(lake: Lake, folder: str, pattern: re.Pattern[str], first: date) -> Iterable[str]:
    for item in lake.store.stored(folder):
        day = _day_of(item.key, pattern)
        if day is not None and day < first:
            yield item.key


def _day_of(key: str, pattern: re.Pattern[str]) -> date | None:
    match = pattern.fullmatch(key)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _metadata(spec: ModelSpec, lake: Lake, table: DayTable) -> dict[str, Any]:
    found, place = table.found, address(lake, f"{table.prefix}/{table.version}")
    columns = [dg.TableColumn(name) for name in found.columns]
    versions = "\n".join(f"| {version} | {rows:,} |" for version, rows in found.versions.items())
    return {
        **table_metadata(asset_key(spec, STAGE), place, found.rows, columns, {}),
        "rows": found.rows,
        "labelled": found.labelled,
        "label_share": found.labelled / found.rows if found.rows else 0.0,
        "versions": dg.MetadataValue.md(f"| version | rows |\n|---|---|\n{versions}"),
        "files": table.files,
    }
