"""The job `lake_retention`: deletes of the lake what no version, alias or run needs; a dry run by default.

Kept is what the latest handle of a stage, Dagster's latest materialization, a run of the last days or a version in
MLflow names, in whatever space of the lake. While a run of a model is in progress nothing of that model is deleted, and
nothing at all when MLflow cannot be asked.
"""

import json
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.stage import as_dagster_failure
from mlops_assets.components.retrain_runs import UNFINISHED
from mlops_assets.ml.values import MOST_DAYS
from mlops_assets.spec.model_spec import REFRESH_SUFFIX, RETENTION_JOB, ROLLBACK_SUFFIX
from resources.lake.lake import Lake
from resources.lake.lake_lock import lake_lock
from resources.lake.retention import (
    ModelObjects,
    Unneeded,
    clean_cache,
    delete,
    handles_of,
    size_of,
    survey,
    unneeded,
    unneeded_in_cache,
    versions_in,
    versions_in_handles,
)
from resources.lake.source_cache import SourceCache
from resources.lake.space import in_space
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import VersionTags

JOB = RETENTION_JOB
LOCK_WAIT_S = 10
SHOWN = 1000
TABLE = dg.TableSchema(
    [dg.TableColumn("what"), dg.TableColumn("reason"), dg.TableColumn("bytes", "int"), dg.TableColumn("objects", "int")]
)


class RetentionConfig(dg.Config):
    """What `lake_retention` does, and what is kept beside what is in use."""

    dry_run: bool = Field(default=True, description="List what would be deleted, and delete nothing")
    older_than_days: float = Field(
        default=14, ge=0, le=MOST_DAYS, description="What was written, or used by a run, in these last days stays"
    )
    keep_versions: int | None = Field(
        default=None,
        ge=1,
        description="Of each model, how many of the newest versions keep all that they were made from, "
        "beside those with an alias; all versions do when it is not given",
    )


@dataclass
class Retention:
    """What was found, and what became of it."""

    unneeded: dict[str, list[Unneeded]] = field(default_factory=dict[str, list[Unneeded]])
    """By model."""
    kept: dict[str, str] = field(default_factory=dict[str, str])
    """Models of which nothing is deleted now, and why."""
    cache: dict[Path, int] = field(default_factory=dict[Path, int])
    """Folders of this machine's cache, with their bytes."""
    deleted: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        found = (one.size for model, ones in self.unneeded.items() if model not in self.kept for one in ones)
        return sum(found) + sum(self.cache.values())

    def lines(self) -> list[str]:
        """A line for each thing, and one for all."""
        verb = "deleted" if self.deleted else "unneeded"
        found = [f"{model}: nothing is deleted: {reason}" for model, reason in self.kept.items()]
        for model, ones in self.unneeded.items():
            if model not in self.kept:
                found += [f"{verb} {one.what} ({_shown(one.size)}): {one.reason}" for one in ones]
        found += [f"{verb} {folder} ({_shown(size)}): in the cache, not in use" for folder, size in self.cache.items()]
        end = "deleted" if self.deleted else "could be deleted; this was a dry run"
        return [*found, f"{_shown(self.size)} {'were ' if self.deleted else ''}{end}"]


def retain(instance: dg.DagsterInstance, lake: Lake, tracking: Tracking, config: RetentionConfig) -> Retention:
    """Find what nobody needs, and delete it unless this is a dry run.

    Raises:
        TrackingError: MLflow cannot be asked what its versions were made from; nothing was deleted.
        LakeError: the lake cannot be reached, or another retention is at work.
    """
    if config.dry_run:
        return _retain(instance, lake, tracking, config)
    with lake_lock(lake.store, JOB, wait_s=LOCK_WAIT_S) as held:  # of all spaces
        held.check()
        return _retain(instance, lake, tracking, config)


def _retain(instance: dg.DagsterInstance, lake: Lake, tracking: Tracking, config: RetentionConfig) -> Retention:
    began = datetime.now(UTC)
    before = began - timedelta(days=config.older_than_days)
    models, found = survey(lake.store), Retention(deleted=not config.dry_run)
    versions = {name: tracking.versions_by_space(name) for name in models}
    for name, model in models.items():
        for space, last in model.ledgers.items():
            if why := foreign_registry(in_space(space, name), last, versions[name].get(space, []), lake, tracking):
                found.kept[name] = why
    needed = set[str]()
    for name, model in models.items():
        needed |= versions_in_handles(lake.store, model, before)
        needed |= versions_in(
            text
            for of_space in versions[name].values()
            for version in kept_versions(of_space, config.keep_versions)
            for text in version.tags.values()
        )
        needed |= versions_in(latest_materializations(instance, name, model))
    for name, model in models.items():

        def busy(name: str = name, model: ModelObjects = model) -> str | None:
            return run_in_progress(instance, name, models.keys(), began) or used_since(lake, name, model)

        ones = list(unneeded(lake.store, name, model, needed, before))
        found.unneeded[name] = ones
        if reason := found.kept.get(name) or busy():
            found.kept[name] = reason
        elif not config.dry_run and ones and not delete(lake.store, ones, lambda busy=busy: busy() is None):
            found.kept[name] = busy() or "a run of it has begun meanwhile"
    if not runs_in_progress(instance, began):
        left = survey(lake.store) if found.deleted else _without(models, found)
        folders = unneeded_in_cache(lake, left, before)
        found.cache = {folder: size_of(folder) for folder in folders}
        found.cache |= SourceCache(Path(lake.cache, "sources")).unused(before.timestamp())
        if not config.dry_run:
            clean_cache(lake, folders, before)
    return found


def _without(models: dict[str, ModelObjects], found: Retention) -> dict[str, ModelObjects]:
    """What the lake would hold after a deletion."""
    gone = {
        item.key
        for name, ones in found.unneeded.items()
        if name not in found.kept
        for one in ones
        for item in one.objects
    }
    return {
        name: ModelObjects(
            versions={
                place: {part: item for part, item in parts.items() if item.key not in gone}
                for place, parts in model.versions.items()
            }
        )
        for name, model in models.items()
    }


def kept_versions(versions: Sequence[VersionTags], keep: int | None) -> list[VersionTags]:
    """The versions, the newest first, that keep what they were made from."""
    count = len(versions) if keep is None else keep
    return [version for number, version in enumerate(versions) if version.aliases or number < count]


def foreign_registry(
    folder: str, last: str, versions: Sequence[VersionTags], lake: Lake, tracking: Tracking
) -> str | None:
    """Why MLflow does not seem to be the one that holds the versions of a model in a space, or None.

    `last` is the key of the last entry in its ledger, which lies in `folder`.
    """
    content = lake.store.read(last)
    if content is None:
        return None
    try:
        entry: dict[str, Any] = json.loads(content)
    except ValueError:
        return f"the ledger entry {last} is damaged; restore it from a copy, or move it away"
    number, known = entry["version"], {version.version: version.tags.get("sha256") for version in versions}
    if known and known.get(number, entry.get("sha256")) == entry.get("sha256"):
        return None
    what = f"its ledger ends with version {number}, which MLflow at {tracking.address} does not have"
    return f"{what}; if the model was deleted there on purpose, delete the folder {folder} of the lake"


def latest_materializations(instance: dg.DagsterInstance, name: str, model: ModelObjects) -> list[str]:
    """What Dagster shows of the latest materialization of each stage, as text."""
    keys = [dg.AssetKey([name, stage]) for stage in model.stages]
    events = instance.get_latest_materialization_events(keys).values()
    found = list[str]()
    for event in events:
        materialization = event.asset_materialization if event else None
        if materialization is not None:
            found += [*(materialization.tags or {}).values()]
            found += [str(value.value) for value in materialization.metadata.values()]
    return found


def runs_in_progress(instance: dg.DagsterInstance, since: datetime) -> list[dg.DagsterRun]:
    """Runs but those of retention that are in progress, or have been since."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    recent = instance.get_runs(dg.RunsFilter(updated_after=since))
    return [run for run in (*unfinished, *recent) if run.job_name != JOB]


def run_in_progress(instance: dg.DagsterInstance, name: str, models: Set[str], since: datetime) -> str | None:
    """The run that may be at work on a model, or None. One of which nobody knows what it is about may be."""
    for run in runs_in_progress(instance, since):
        keys: Iterable[dg.AssetKey] = run.asset_selection or ()
        about = {key.path[0] for key in keys} or {run.job_name, *_without_suffix(run.job_name)} & models
        if name in about or not about:
            return f"run {run.run_id} is in progress ({run.status.value}); terminate it if it is dead"
    return None


def _without_suffix(job: str) -> list[str]:
    suffixes = ("_by_day", "_by_month", ROLLBACK_SUFFIX, REFRESH_SUFFIX)
    return [job.removesuffix(suffix) for suffix in suffixes if job.endswith(suffix)]


def used_since(lake: Lake, name: str, model: ModelObjects) -> str | None:
    """Whether a run, of another Dagster instance perhaps, has made something of a model since the survey."""
    known = {(item.key, item.modified) for item in model.handles}
    if any((item.key, item.modified) not in known for item in handles_of(lake.store, name)):
        return "a run has made something of it meanwhile"
    return None


def _shown(size: int) -> str:
    """Bytes in a unit that fits.

    >>> _shown(999), _shown(12_345_678)
    ('999 bytes', '12.3 MB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


@dg.op(
    # The IO manager keeps handles of assets alone
    out=dg.Out(dg.Nothing),
    description="Deletes what no version, alias or run needs; a dry run unless dry_run is false",
)
def delete_unneeded(context: dg.OpExecutionContext, config: RetentionConfig, lake: Lake, tracking: Tracking) -> None:
    """Tell, in the log and as metadata, what goes and what each of it takes."""
    with as_dagster_failure():
        found = retain(context.instance, lake, tracking, config)
    lines = found.lines()
    for line in lines:
        context.log.info(line)
    records = [
        dg.TableRecord({"what": one.what, "reason": one.reason, "bytes": one.size, "objects": len(one.objects)})
        for model, ones in found.unneeded.items()
        if model not in found.kept
        for one in ones
    ]
    metadata: dict[str, dg.MetadataValue] = {
        "dry_run": dg.MetadataValue.bool(config.dry_run),
        "bytes": dg.MetadataValue.int(found.size),
        "unneeded": dg.MetadataValue.table(records[:SHOWN], TABLE),
        "kept_models": dg.MetadataValue.json(found.kept),
        "summary": dg.MetadataValue.text(lines[-1]),
    }
    context.add_output_metadata(metadata)


# In the run's own process: it needs nothing but the lake and MLflow
@dg.job(name=JOB, executor_def=dg.in_process_executor, description="Deletes of the lake what nobody needs any more")
def lake_retention() -> None:
    delete_unneeded()


weekly_retention = dg.ScheduleDefinition(
    name=f"{JOB}_weekly",
    job=lake_retention,
    cron_schedule="0 4 * * 0",
    run_config={"ops": {"delete_unneeded": {"config": {"dry_run": False}}}},
    default_status=dg.DefaultScheduleStatus.STOPPED,  # who turns it on has looked at a dry run
    description="Sundays at 4:00 UTC. It deletes: look at a dry run of the job first, then turn it on",
)
