"""features: fits the preprocessing on the train part, and writes memory-mapped arrays for both parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.assets.handles import Features, PreparedData
from mlops_assets.assets.stage import StageReport, asset_key, check, snapshot, stage, version_of
from mlops_assets.assets.table_metadata import address, feature_sources, table_metadata
from mlops_assets.ml.features.feature_set import FeaturePlan, FeatureSet, build_features
from mlops_assets.ml.features.leakage import Leakage, LeakageRule, find_leakage
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake

CODE_VERSION = "4"
SHOWN_SCORE = 0.9  # of features that come near to give the target away


def features_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Arrays to learn from in a snapshot, with the fitted preprocessing."""
    name = "features"
    checks = [
        check(spec, name, "no_leakage", "No feature is the target or a function of it"),
        check(spec, name, "finite", "Every feature value is a finite number"),
    ]

    @stage(
        spec,
        name,
        CODE_VERSION,
        Features,
        "prepared_data",
        kinds={"scikitlearn", "onnx"},
        description="Arrays to learn from",
        checks=checks,
        is_table=True,
    )
    def features(context: dg.AssetExecutionContext, prepared_data: PreparedData, lake: Lake) -> StageReport:
        plan = feature_plan(spec, prepared_data)
        version, prefix = version_of(CODE_VERSION, prepared_data.version, plan), f"{spec.model}/{name}"
        prepared = lake.fetch(prepared_data.prefix, prepared_data.version)
        with snapshot(lake, context.log.info, prefix, version, lambda folder: work(prepared, plan, folder)) as (
            folder,
            _,
        ):
            handle = Features(prefix=prefix, version=version, prepared=prepared_data)
            made = FeatureSet.read(folder)
            return report(handle, made, Leakage.read(folder), spec.features.leakage, table(spec, lake, handle, made))

    return features


def table(spec: ModelSpec, lake: Lake, handle: Features, features: FeatureSet) -> dict[str, Any]:
    """The arrays as a table with a column for each feature."""
    own, prepared = asset_key(spec, "features"), asset_key(spec, "prepared_data")
    never = dg.TableColumnConstraints(nullable=False)
    columns = [dg.TableColumn(name, "float32", constraints=never) for name in dict.fromkeys(features.feature_names)]
    sources = feature_sources(features.feature_names, features.inputs)
    made_of = {feature: [(prepared, name) for name in names] for feature, names in sources.items()}
    uri = address(lake, f"{handle.prefix}/{handle.version}")
    return table_metadata(own, uri, features.train_rows + features.test_rows, columns, made_of)


def feature_plan(spec: ModelSpec, prepared_data: PreparedData) -> FeaturePlan:
    """The part of the YAML, and of the rows, that decides the features."""
    used = tuple(column for column in spec.prepared_columns if column.name in spec.features.use)
    return FeaturePlan(
        use=used,
        target=spec.target,
        task=spec.task,
        classes=prepared_data.classes,
        validation_rows=prepared_data.validation_rows,
    )


def work(prepared: Path, plan: FeaturePlan, folder: Path) -> None:
    """Fill the snapshot's folder from the prepared rows."""
    build_features(prepared, folder, plan)
    find_leakage(prepared, plan).write(folder)


def report(
    handle: Features, features: FeatureSet, leakage: Leakage, rule: LeakageRule, table: Mapping[str, Any]
) -> StageReport:
    """What the arrays hold, and whether a feature gives the target away."""
    leaks = leakage.leaks(rule)
    return StageReport(
        handle,
        handle.version,
        metadata={
            **table,
            "features": len(features.feature_names),
            "inputs": ", ".join(column.name for column in features.inputs),
            "train_rows": features.train_rows,
            "test_rows": features.test_rows,
            "rows_with_rare_category": dg.MetadataValue.json({name: round(s, 4) for name, s in features.rare.items()}),
            "snapshot": f"{handle.prefix}/{handle.version}",
        },
        checks=[
            dg.AssetCheckResult(
                check_name="no_leakage",
                passed=not leaks,
                description=" ".join(leaks) or "No single feature gives the target away.",
                metadata={name: score for name, score in leakage.scores.items() if score >= SHOWN_SCORE},
            ),
            finite_check(features.non_finite),
        ],
    )


def finite_check(non_finite: dict[str, int]) -> dg.AssetCheckResult:
    """Fails when a feature holds a NaN or an infinity."""
    lines = [f"{feature}: {count} values are not finite" for feature, count in non_finite.items()]
    return dg.AssetCheckResult(check_name="finite", passed=not lines, description="; ".join(lines) or "All are finite.")
