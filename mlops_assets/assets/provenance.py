"""From a version back to what it was made from: its run, code, snapshots, and the source objects as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import ValidationError

from mlops_assets.assets.handles import RawData, handle_key
from mlops_assets.ml.errors import TrackingError
from mlops_assets.ml.values import Value
from resources.lake.object_store import SourceObject
from resources.tracking.alias_ledger import AliasLedger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resources.lake.lake import Lake
    from resources.tracking.mlflow_tracking import Tracking

SHOWN_OBJECTS = 1000
# The tag of a version that has the snapshot of a stage; that of the training is named as a whole
SNAPSHOT_TAGS = {
    "prepared_data": "prepared_data_version",
    "features": "features_version",
    "trained_model": "snapshot",
    "evaluation": "evaluation_version",
}


class MadeFrom(Value):
    """A snapshot, `<prefix>/<version>`, that a version was made from or judged by."""

    stage: str
    snapshot: str
    is_there: bool
    """Whether the lake still has it."""


class Provenance(Value):
    """What a version was made from. What cannot be known any more is None or empty, and `missing` says why."""

    model: str
    version: str
    sha256: str | None = None
    mlflow_version: str | None = None
    mlflow_run: str | None = None
    dagster_run: str | None = None
    git_commit: str | None = None
    snapshots: tuple[MadeFrom, ...] = ()
    source: str | None = None
    objects: tuple[SourceObject, ...] = ()
    missing: tuple[str, ...] = ()


def provenance_of(model: str, version: str, lake: Lake, tracking: Tracking) -> Provenance:
    """What is known of a version, by its number in MLflow."""
    try:
        found = tracking.numbered(model, int(version)) if version.isdecimal() else None
        if found is None:
            digest = AliasLedger(lake, model).digest_of(version)
            what = f"MLflow has no version {version} of {model} any more, so nothing leads to its run and data"
            return Provenance(model=model, version=version, sha256=digest, missing=(what,))
        tags, page = tracking.tags_of(found), tracking.version_url(found)
    except TrackingError as error:
        return Provenance(model=model, version=version, missing=(str(error),))
    run, raw = tags.get("dagster_run_id"), None
    if tags.get("raw_data_version"):
        raw = _raw_data(lake, model, tags["raw_data_version"], run)
    made = Provenance(
        model=model,
        version=version,
        sha256=found.sha256,
        mlflow_version=page,
        mlflow_run=found.run_id,
        dagster_run=run,
        git_commit=tags.get("git_commit"),
        snapshots=tuple(_snapshots(lake, model, tags)),
        source=tags.get("source"),
        objects=raw.objects if raw else (),
    )
    return made.model_copy(update={"missing": tuple(_missing(made, tags))})


def provenance_metadata(made: Provenance) -> dict[str, Any]:
    """The same for Dagster's page of an asset; what is not known is left out, and said."""
    rows = "".join(f"\n| {item.stage} | {item.snapshot} |" for item in made.snapshots)
    found: dict[str, Any] = {
        "made_from": dg.MetadataValue.md(f"| stage | snapshot |\n|---|---|{rows}") if rows else None,
        "made_by_run": dg.MetadataValue.dagster_run(made.dagster_run) if made.dagster_run else None,
        "git_commit": made.git_commit,
        "source": made.source,
        "source_objects": dg.MetadataValue.json([item.model_dump() for item in made.objects[:SHOWN_OBJECTS]]),
        "not_known": "; ".join(made.missing) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _snapshots(lake: Lake, model: str, tags: Mapping[str, str]) -> Iterator[MadeFrom]:
    for stage, tag in SNAPSHOT_TAGS.items():
        if tag in tags:
            place = tags[tag] if tag == "snapshot" else f"{model}/{stage}/{tags[tag]}"
            is_there = lake.store.read(f"{place}/manifest.json") is not None
            yield MadeFrom(stage=stage, snapshot=place, is_there=is_there)


def _raw_data(lake: Lake, model: str, version: str, run: str | None) -> RawData | None:
    """The list of source objects of a version: that of its run, or of another that found the same objects."""
    for key in _handles(lake, lake.own(f"{model}/raw_data"), run):
        try:
            found = RawData.model_validate_json(lake.store.read(key) or b"")
        except ValidationError:
            continue  # it is not there, or of another version of this code
        if found.version == version:
            return found
    return None


def _handles(lake: Lake, folder: str, run: str | None) -> Iterator[str]:
    if run:
        yield handle_key(folder, run)
    yield from lake.store.sizes(handle_key(folder, "*"))


def _missing(made: Provenance, tags: Mapping[str, str]) -> Iterator[str]:
    """What is not known, a sentence each."""
    named = {"the Dagster run": made.dagster_run, "the source": made.source}
    unnamed = [what for what, value in named.items() if value is None]
    unnamed += [f"the snapshot of {stage}" for stage, tag in SNAPSHOT_TAGS.items() if tag not in tags]
    if unnamed:
        yield f"the version's tags in MLflow do not name {', '.join(unnamed)}"
    if made.git_commit in (None, "unknown"):
        yield "the commit is not known: the code ran where there was no git"
    elif made.git_commit.endswith("+changes"):
        yield "the code had changes that are in no commit"
    if not made.objects:
        yield "the lake has no list of the source objects any more, or it is that of another lake"
    for item in made.snapshots:
        if not item.is_there:
            yield f"the lake has no snapshot {item.snapshot} any more"
