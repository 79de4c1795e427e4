"""features: fits the preprocessing on the train part, and writes memory-mapped arrays for both parts."""

import dagster as dg

from mlops_assets.assets.handles import Features, PreparedData
from mlops_assets.assets.stage import check, read_json, snapshot, stage, told_clearly, version_of
from mlops_assets.ml.features.feature_set import FeaturePlan, FeatureSet, build_features
from mlops_assets.ml.features.leakage import Leakage, leaks
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake

CODE_VERSION = "1"


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    name = "features"
    checks = [
        check(spec, name, "no_leakage", "No feature is the target or a function of it"),
        check(spec, name, "finite", "Every feature value is a finite number"),
    ]

    @stage(spec, name, CODE_VERSION, Features, "prepared_data", checks=checks, description="Arrays to learn from")
    def features(context: dg.AssetExecutionContext, prepared_data: PreparedData, lake: Lake) -> dg.MaterializeResult:
        used = tuple(column for column in spec.contract if column.name in spec.features.use)
        plan = FeaturePlan(use=used, target=spec.target_value, task=spec.task, classes=prepared_data.classes)
        version = version_of(CODE_VERSION, prepared_data.version, plan)
        place = f"{spec.model}/{name}"
        with told_clearly():
            prepared = lake.fetch(prepared_data.place, prepared_data.version)
            with snapshot(lake, context, place, version) as (folder, missing):
                if missing:
                    build_features(prepared, folder, plan)
                    (folder / "leakage.json").write_text(leaks(prepared, plan).model_dump_json(indent=1))
                made = read_json(FeatureSet, folder / "features.json")
                found = read_json(Leakage, folder / "leakage.json").leaks
        return dg.MaterializeResult(
            value=Features(place=place, version=version, prepared=prepared_data),
            data_version=dg.DataVersion(version),
            metadata={
                "features": len(made.feature_names),
                "inputs": ", ".join(column.name for column in used),
                "train_rows": made.train_rows,
                "test_rows": made.test_rows,
                "snapshot": f"{place}/{version}",
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="no_leakage",
                    passed=not found,
                    description="; ".join(leak.message for leak in found) or "No single feature gives the target away.",
                ),
                finite_check(made.non_finite),
            ],
        )

    return features


def finite_check(non_finite: dict[str, int]) -> dg.AssetCheckResult:
    """Fails when a feature holds a NaN or an infinity."""
    lines = [f"{feature}: {count} values are not finite" for feature, count in non_finite.items()]
    return dg.AssetCheckResult(check_name="finite", passed=not lines, description="; ".join(lines) or "All are finite.")
