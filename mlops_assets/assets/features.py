"""features: fits the preprocessing on the train part, and writes memory-mapped arrays for both parts."""

from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Features, PreparedData
from mlops_assets.assets.stage import StageReport, check, snapshot, stage, version_of
from mlops_assets.ml.features.feature_set import FeaturePlan, FeatureSet, build_features
from mlops_assets.ml.features.leakage import Leakage, find_leakage
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake

CODE_VERSION = "3"


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
            return report(handle, FeatureSet.read(folder), Leakage.read(folder))

    return features


def feature_plan(spec: ModelSpec, prepared_data: PreparedData) -> FeaturePlan:
    """The part of the YAML, and of the rows, that decides the features."""
    used = tuple(column for column in spec.contract if column.name in spec.features.use)
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


def report(handle: Features, features: FeatureSet, leakage: Leakage) -> StageReport:
    """What the arrays hold, and whether a feature gives the target away."""
    return StageReport(
        handle,
        handle.version,
        metadata={
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
                passed=not leakage.leaks,
                description="; ".join(leak.message for leak in leakage.leaks)
                or "No single feature gives the target away.",
            ),
            finite_check(features.non_finite),
        ],
    )


def finite_check(non_finite: dict[str, int]) -> dg.AssetCheckResult:
    """Fails when a feature holds a NaN or an infinity."""
    lines = [f"{feature}: {count} values are not finite" for feature, count in non_finite.items()]
    return dg.AssetCheckResult(check_name="finite", passed=not lines, description="; ".join(lines) or "All are finite.")
