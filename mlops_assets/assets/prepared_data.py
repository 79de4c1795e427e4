"""prepared_data: cleans the rows, computes the target and splits them into train and test, in bounded memory."""

from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import PreparedData, RawData
from mlops_assets.assets.stage import StageReport, check, snapshot, stage, version_of
from mlops_assets.ml.data.prepare import Preparation, PreparationPlan, prepare
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake

CODE_VERSION = "2"
ROW_CHANGE = 0.5  # a row count that changes by more than this share is worth a look


def prepared_data_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Clean rows in a snapshot: train.parquet and test.parquet."""
    name = "prepared_data"
    checks = [
        check(spec, name, "contract", "Values are within the ranges and categories of the contract"),
        check(spec, name, "label_rate", "Every class is in train and in test"),
        check(spec, name, "disjoint", "No row is in both train and test"),
        check(spec, name, "row_count", "About as many rows as last time", blocking=False),
    ]

    @stage(
        spec,
        name,
        CODE_VERSION,
        PreparedData,
        "raw_data",
        kinds={"duckdb", "parquet"},
        description="Clean rows: train | test",
        checks=checks,
    )
    def prepared_data(context: dg.AssetExecutionContext, raw_data: RawData, lake: Lake) -> StageReport:
        plan = preparation_plan(spec)
        version, prefix = version_of(CODE_VERSION, raw_data.version, plan), f"{spec.model}/{name}"
        with snapshot(lake, context.log.info, prefix, version, lambda folder: work(raw_data, plan, lake, folder)) as (
            folder,
            _,
        ):
            preparation = Preparation.read(folder)
        handle = PreparedData(
            prefix=prefix,
            version=version,
            train_rows=preparation.train_rows,
            test_rows=preparation.test_rows,
            classes=preparation.classes,
        )
        return report(handle, preparation, rows_before(context))

    return prepared_data


def preparation_plan(spec: ModelSpec) -> PreparationPlan:
    """The part of the YAML that decides the rows."""
    return PreparationPlan(
        columns=spec.contract,
        target=spec.target,
        task=spec.task,
        prepare=spec.prepare,
        event_time=spec.source.event_time,
    )


def work(raw_data: RawData, plan: PreparationPlan, lake: Lake, folder: Path) -> None:
    """Fill the snapshot's folder from the pinned objects."""
    with lake.sources(raw_data.uri, raw_data.objects) as paths:
        prepare(paths, folder, plan, window=(raw_data.start, raw_data.end))


def report(handle: PreparedData, preparation: Preparation, rows_before: int | None) -> StageReport:
    """Row counts and label rates, and whether the rows keep the contract."""
    rows, rates = handle.train_rows + handle.test_rows, dg.MetadataValue.json(preparation.label_rates)
    return StageReport(
        handle,
        handle.version,
        metadata={
            "dagster/row_count": rows,
            "train_rows": handle.train_rows,
            "test_rows": handle.test_rows,
            "rows_with_nulls": preparation.rows_with_nulls,
            "duplicates": preparation.duplicates,
            "label_rates": rates,
            "snapshot": f"{handle.prefix}/{handle.version}",
        },
        checks=[
            contract_check(preparation),
            dg.AssetCheckResult(check_name="label_rate", passed=True, metadata={"rates": rates}),
            disjoint_check(preparation),
            row_count_check(rows, rows_before),
        ],
    )


def contract_check(preparation: Preparation) -> dg.AssetCheckResult:
    """Fails when values break the contract, and says which."""
    lines = [f"{v.column}: {v.count} rows break {v.rule}, such as {v.example}" for v in preparation.violations]
    return dg.AssetCheckResult(
        check_name="contract",
        passed=not lines,
        description="; ".join(lines)
        + ("; correct the data, or widen the contract under columns." if lines else "All values keep it."),
    )


def disjoint_check(preparation: Preparation) -> dg.AssetCheckResult:
    """Fails when a row is in both parts."""
    return dg.AssetCheckResult(
        check_name="disjoint",
        passed=preparation.overlap == 0,
        description=f"{preparation.overlap} rows are in both parts.",
    )


def row_count_check(rows: int, rows_before: int | None) -> dg.AssetCheckResult:
    """Warns when the number of rows differs much from the last materialization."""
    change = (rows - rows_before) / rows_before if rows_before else 0.0
    return dg.AssetCheckResult(
        check_name="row_count",
        passed=abs(change) <= ROW_CHANGE,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{rows} rows, {change:+.0%} against last time",
    )


def rows_before(context: dg.AssetExecutionContext) -> int | None:
    """The row count of the last materialization."""
    last = context.instance.get_latest_materialization_event(context.asset_key)
    materialization = last.asset_materialization if last else None
    count = materialization.metadata.get("dagster/row_count") if materialization else None
    return count.value if count is not None and isinstance(count.value, int) else None
