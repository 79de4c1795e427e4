"""online_features: brings what is new in the feature views into the online store, and looks it up again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.assets.handles import FeatureViews, OnlineFeatures
from mlops_assets.assets.stage import StageReport, check, stage, version_of
from mlops_assets.ml.data.feature_view import FeatureView
from mlops_assets.ml.data.stored_values import newest_rows, sampled_rows
from mlops_assets.spec.model_spec import ModelSpec
from resources.features.online_store import OnlineStore, OnlineViews
from resources.lake.lake import Lake

CODE_VERSION = "1"
COMPARED = 1_000  # entities of each view
SHOWN = 3


def online_features_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The newest values of the model's feature views, where requests look them up."""
    name = "online_features"
    checks = [
        check(spec, name, "skew", "Rows get the same values by the join and by the online store"),
        check(spec, name, "fresh", "The newest values are not too old to count now", blocking=False),
    ]

    @stage(
        spec,
        name,
        CODE_VERSION,
        OnlineFeatures,
        "feature_views",
        kinds={"feast"},
        description="The newest values, for look-ups",
        checks=checks,
    )
    def online_features(
        context: dg.AssetExecutionContext,
        feature_views: FeatureViews,
        lake: Lake,
        online_store: dg.ResourceParam[OnlineStore],
    ) -> StageReport:
        folder = lake.fetch(feature_views.prefix, feature_views.version)
        with lake.lock(f"{spec.model}/{name}"):
            online = online_store.of(lake.name_of(spec.model))
            online.register(spec.views, {view: folder / f"{view}.parquet" for view in spec.views})
            written, differences = dict[str, int](), list[str]()
            for view_name, view in spec.views.items():
                written[view_name] = materialize(online, view_name, view, lake, feature_views, folder)
                context.log.info(f"{view_name}: {written[view_name]} entities have new values")
                found = compare(online, view_name, view, folder, feature_views)
                if found:  # what is there is not what was written, and all of it is written the next time
                    online.has_materialized(view_name, None)
                differences += found
        return report(spec, feature_views, written, differences, datetime.now(UTC))

    return online_features


def materialize(
    online: OnlineViews, name: str, view: FeatureView, lake: Lake, feature_views: FeatureViews, folder: Path
) -> int:
    """Write the newest rows of a view that are not in the store yet, and say how many there were.

    What is new is known by its values and not by a time: rows may come late. Killed on the way, it begins again.
    """
    before, version, prefix = online.materialized(name), feature_views.version, feature_views.prefix
    if before == version:
        return 0
    is_there = before is not None and lake.find(prefix, before) is not None
    old = lake.fetch(prefix, before) / f"{name}.parquet" if before and is_there else None
    with newest_rows(view, folder / f"{name}.parquet", old) as batches:
        written = sum(online.write(name, batch) for batch in batches)
    online.has_materialized(name, version)
    return written


def compare(online: OnlineViews, name: str, view: FeatureView, folder: Path, feature_views: FeatureViews) -> list[str]:
    """What differs between the join and the look-up for rows of the view's newest moment, value by value."""
    at = feature_views.last_event[name].replace(tzinfo=None)
    expected = sampled_rows(view, folder / f"{name}.parquet", at, COMPARED)
    found = online.read(name, [{key: row[key] for key in view.entity} for row in expected])
    lines = list[str]()
    for row, known in zip(expected, found, strict=True):
        for feature in view.features:
            value = view.value(feature, known.at, known.values.get(feature), at)
            if value != row[feature]:
                entity = ", ".join(str(row[key]) for key in view.entity)
                lines.append(f"{name}.{feature} of {entity} is {value!r} online, and {row[feature]!r} in training")
    return lines


def report(
    spec: ModelSpec, feature_views: FeatureViews, written: dict[str, int], differences: list[str], now: datetime
) -> StageReport:
    """What was written, whether it is read as it was joined, and whether it is fresh."""
    version = version_of(CODE_VERSION, feature_views.version, *spec.views, *spec.views.values())
    ages = {name: now - last for name, last in feature_views.last_event.items()}
    metadata: dict[str, Any] = {f"written_{name}": rows for name, rows in written.items()}
    metadata |= {f"newest_{name}": last.isoformat() for name, last in feature_views.last_event.items()}
    return StageReport(
        OnlineFeatures(feature_views=feature_views.version),
        version,
        metadata=metadata,
        checks=[skew_check(differences), fresh_check(spec, ages)],
    )


def skew_check(differences: list[str]) -> dg.AssetCheckResult:
    """Fails when a look-up gives another value than the join did."""
    more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    what = f"{'; '.join(differences[:SHOWN])}{more}. Somebody else has written to the store, or lost a part of it: "
    return dg.AssetCheckResult(
        check_name="skew",
        passed=not differences,
        description=f"{what}materialize online_features again, which then writes all of it."
        if differences
        else "Equal value by value.",
        metadata={"differences": len(differences)},
    )


def fresh_check(spec: ModelSpec, ages: dict[str, timedelta]) -> dg.AssetCheckResult:
    """Warns when all that is known is too old to count."""
    old = [name for name, view in spec.views.items() if ages[name] > view.max_age]
    lines = [
        f"{name}: the newest value is {ages[name]} old, and {spec.views[name].max_age} is its max_age" for name in old
    ]
    return dg.AssetCheckResult(
        check_name="fresh",
        passed=not old,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{'; '.join(lines)}. Requests about now get what stands for a missing value; bring newer rows."
        if old
        else "Newer than max_age.",
    )
