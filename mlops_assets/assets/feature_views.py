"""feature_views: pins the sources of a model's feature views, and brings their rows into one form."""

from datetime import UTC
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import FeatureViews
from mlops_assets.assets.raw_data import list_objects
from mlops_assets.assets.stage import StageReport, snapshot, stage, version_of
from mlops_assets.ml.data.stored_values import StoredValues, write_view
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake
from resources.lake.object_store import SourceObject

CODE_VERSION = "1"


def feature_views_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The rows of each view in a snapshot, by entity and time."""
    name = "feature_views"

    @stage(
        spec,
        name,
        CODE_VERSION,
        FeatureViews,
        kinds={"duckdb", "feast"},
        description="Values of feature views, by entity and time",
    )
    def feature_views(context: dg.AssetExecutionContext, lake: Lake) -> StageReport:
        views = spec.features.from_store
        objects = {name: list_objects(view.source, lake, context.log.info) for name, view in views.items()}
        version, prefix = version_of(CODE_VERSION, *plan(spec, objects)), f"{spec.model}/{name}"
        with snapshot(lake, context.log.info, prefix, version, lambda folder: work(spec, lake, objects, folder)) as (
            folder,
            _,
        ):
            stored = StoredValues.read(folder)
        return report(prefix, version, stored, objects)

    return feature_views


def plan(spec: ModelSpec, objects: dict[str, list[SourceObject]]) -> list[object]:
    """What of the YAML and of the sources decides the rows; a view's age limit and what is missing do not."""
    return [
        part
        for name, view in spec.features.from_store.items()
        for part in (
            name,
            view.entity,
            [[feature, rules.type] for feature, rules in view.features.items()],
            view.source.event_time,
            view.source.csv,
            *objects[name],
        )
    ]


def work(spec: ModelSpec, lake: Lake, objects: dict[str, list[SourceObject]], folder: Path) -> None:
    """Fill the snapshot's folder: a file for each view."""
    found = StoredValues(views={})
    for name, view in spec.features.from_store.items():
        source = view.source
        with lake.sources(source.uri, objects[name]) as paths:
            found.views[name] = write_view(name, view.rules, source.event_time, paths, folder, source.csv)
    found.write(folder)


def report(prefix: str, version: str, stored: StoredValues, objects: dict[str, list[SourceObject]]) -> StageReport:
    """What each view holds."""
    rows = [
        dg.TableRecord(
            {
                "view": name,
                "objects": len(objects[name]),
                "rows": view.kept,
                "without entity or time": view.incomplete,
                "of an equal moment": view.duplicates,
                "from": f"{view.first_event}",
                "to": f"{view.last_event}",
            }
        )
        for name, view in stored.views.items()
    ]
    handle = FeatureViews(
        prefix=prefix,
        version=version,
        last_event={name: view.last_event.replace(tzinfo=UTC) for name, view in stored.views.items()},
    )
    return StageReport(
        handle,
        version,
        metadata={
            "views": dg.MetadataValue.table(rows),
            "dagster/row_count": sum(view.kept for view in stored.views.values()),
            "snapshot": f"{prefix}/{version}",
        },
    )
