"""prepared_data: cleans the rows, computes the target and splits them into train and test, in bounded memory."""

import dagster as dg

from mlops_assets.assets.handles import PreparedData, RawData
from mlops_assets.assets.stage import check, read_json, snapshot, stage, told_clearly, version_of
from mlops_assets.ml.data.prepare import Preparation, PreparationPlan, prepare
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake

CODE_VERSION = "1"
ROW_CHANGE = 0.5  # a row count that changes by more than this share is worth a look


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    name = "prepared_data"
    checks = [
        check(spec, name, "contract", "Values are within the ranges and categories of the contract"),
        check(spec, name, "label_rate", "Every class is in train and in test"),
        check(spec, name, "disjoint", "No row is in both train and test"),
        check(spec, name, "row_count", "About as many rows as last time", blocking=False),
    ]

    @stage(spec, name, CODE_VERSION, PreparedData, "raw_data", checks=checks, description="Clean rows: train | test")
    def prepared_data(context: dg.AssetExecutionContext, raw_data: RawData, lake: Lake) -> dg.MaterializeResult:
        plan = PreparationPlan(
            columns=spec.contract,
            target=spec.target_value,
            task=spec.task,
            drop_nulls=spec.prepare.drop_nulls,
            drop_duplicates=spec.prepare.drop_duplicates,
            split=spec.split_value,
            event_time=spec.source.event_time,
        )
        version = version_of(CODE_VERSION, raw_data.version, plan)
        place = f"{spec.model}/{name}"
        with told_clearly(), snapshot(lake, context, place, version) as (folder, missing):
            if missing:
                with lake.sources(raw_data.uri, raw_data.objects) as paths:
                    prepare(paths, folder, plan, window=(raw_data.start, raw_data.end))
            report = read_json(Preparation, folder / "report.json")
        handle = PreparedData(
            place=place,
            version=version,
            train_rows=report.train_rows,
            test_rows=report.test_rows,
            classes=tuple(report.classes) if report.classes is not None else None,
        )
        return dg.MaterializeResult(
            value=handle,
            data_version=dg.DataVersion(version),
            metadata={
                "dagster/row_count": report.train_rows + report.test_rows,
                "train_rows": report.train_rows,
                "test_rows": report.test_rows,
                "rows_with_nulls": report.rows_with_nulls,
                "duplicates": report.duplicates,
                "label_rates": dg.MetadataValue.json(report.label_rates),
                "snapshot": f"{place}/{version}",
            },
            check_results=[
                contract_check(report),
                dg.AssetCheckResult(
                    check_name="label_rate", passed=True, metadata={"rates": dg.MetadataValue.json(report.label_rates)}
                ),
                disjoint_check(report),
                row_count_check(context, report),
            ],
        )

    return prepared_data


def contract_check(report: Preparation) -> dg.AssetCheckResult:
    """Fails when values break the contract, and says which."""
    lines = [f"{v.column}: {v.count} rows break {v.rule}, such as {v.example}" for v in report.violations]
    return dg.AssetCheckResult(
        check_name="contract",
        passed=not report.violations,
        description="; ".join(lines)
        + ("; correct the data, or widen the contract under columns." if lines else "All values keep it."),
    )


def disjoint_check(report: Preparation) -> dg.AssetCheckResult:
    """Fails when a row is in both parts."""
    return dg.AssetCheckResult(
        check_name="disjoint", passed=report.overlap == 0, description=f"{report.overlap} rows are in both parts."
    )


def row_count_check(context: dg.AssetExecutionContext, report: Preparation) -> dg.AssetCheckResult:
    """Warns when the number of rows differs much from the last materialization."""
    rows = report.train_rows + report.test_rows
    last = context.instance.get_latest_materialization_event(context.asset_key)
    known = (
        last.asset_materialization.metadata.get("dagster/row_count") if last and last.asset_materialization else None
    )
    before = known.value if known is not None else rows
    change = (rows - before) / before if isinstance(before, int) and before else 0.0
    return dg.AssetCheckResult(
        check_name="row_count",
        passed=abs(change) <= ROW_CHANGE,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{rows} rows, {change:+.0%} against last time",
    )
