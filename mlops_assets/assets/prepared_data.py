"""prepared_data: cleans the rows, computes the target and splits them into train and test, in bounded memory."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.assets.handles import FeatureViews, Lineage, PreparedData, RawData
from mlops_assets.assets.stage import StageReport, asset_key, check, snapshot, stage, version_of
from mlops_assets.assets.table_metadata import address, columns_read_by, contract_columns, listed, table_metadata
from mlops_assets.ml.data.contract import Prepare
from mlops_assets.ml.data.feature_view import FeatureView
from mlops_assets.ml.data.preparation import Preparation, PreparationPlan
from mlops_assets.ml.data.prepare import prepare
from mlops_assets.ml.data.split import split_id
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake

CODE_VERSION = "3"
ROW_CHANGE = 0.5  # a row count that changes by more than this share is worth a look
REPEATED = 0.05  # and so is a larger share of test rows that are equal to train rows


def prepared_data_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Clean rows in a snapshot: train.parquet and test.parquet."""
    name = "prepared_data"
    checks = [
        check(spec, name, "contract", "Values are within the ranges and categories of the contract"),
        check(spec, name, "label_rate", "Every class is in train and in test"),
        check(spec, name, "dropped_rows", "Not too many rows are dropped, for nulls or as duplicates"),
        check(spec, name, "disjoint", "No row of the test part is equal to one of the train part"),
        check(spec, name, "row_count", "About as many rows as last time", blocking=False),
    ]

    def made(
        context: dg.AssetExecutionContext, raw_data: RawData, stored: FeatureViews | None, lake: Lake
    ) -> StageReport:
        plan, prefix = preparation_plan(spec), f"{spec.model}/{name}"
        views = [stored.version, *spec.views, *spec.views.values()] if stored else []
        version = version_of(CODE_VERSION, raw_data.version, plan, *views)
        with snapshot(
            lake,
            context.log.info,
            prefix,
            version,
            lambda folder: work(raw_data, plan, lake, folder, spec.views, stored),
        ) as (folder, _):
            preparation = Preparation.read(folder)
        handle = PreparedData(
            lineage=Lineage(versions={"feature_views": stored.version} if stored else {}),
            prefix=prefix,
            version=version,
            train_rows=preparation.train_rows,
            validation_rows=preparation.validation_rows,
            test_rows=preparation.test_rows,
            classes=preparation.classes,
            target=spec.target.definition,
            split_id=split_id(spec.prepare.split),
            test_from=preparation.test_from,
        )
        until = raw_data.lineage.until
        before = rows_before(context.instance, context.asset_key, until)
        return report(handle, preparation, spec.prepare, until, before, table(spec, lake, handle))

    as_stage = stage(
        spec,
        name,
        CODE_VERSION,
        PreparedData,
        # The last one is what asks for new rows: values that are new in the store make no new model
        *(["feature_views"] if spec.views else []),
        "raw_data",
        kinds={"duckdb", "parquet"},
        description="Clean rows: train | test",
        checks=checks,
        is_table=True,
    )
    if not spec.views:

        @as_stage
        def prepared_data(context: dg.AssetExecutionContext, raw_data: RawData, lake: Lake) -> StageReport:
            return made(context, raw_data, None, lake)

        return prepared_data

    @as_stage
    def prepared_data_with_views(
        context: dg.AssetExecutionContext, feature_views: FeatureViews, raw_data: RawData, lake: Lake
    ) -> StageReport:
        return made(context, raw_data, feature_views, lake)

    return prepared_data_with_views


def table(spec: ModelSpec, lake: Lake, handle: PreparedData) -> dict[str, Any]:
    """The rows of both parts as a table: the columns of the contract, and the target encoded."""
    own, raw = asset_key(spec, "prepared_data"), asset_key(spec, "raw_data")
    kind, meaning = "float64", "the target"
    if handle.classes is not None:
        kind, meaning = "int64", f"the target, as the index of its class among {listed(handle.classes)}"
    target = dg.TableColumn(
        spec.target.column, kind, description=meaning, constraints=dg.TableColumnConstraints(nullable=False)
    )
    columns = [column for column in contract_columns(spec.prepared_columns) if column.name != target.name]
    stored, views = asset_key(spec, "feature_views"), spec.views.values()
    from_store = {feature for view in views for feature in view.features}
    made_of = {column.name: [(stored if column.name in from_store else raw, column.name)] for column in columns}
    made_of[target.name] = [(raw, name) for name in columns_read_by(spec.target, spec.contract)]
    uri = address(lake, f"{handle.prefix}/{handle.version}")
    # The target first: it is among those that are shown, however many there are
    return table_metadata(own, uri, handle.train_rows + handle.test_rows, [target, *columns], made_of)


def preparation_plan(spec: ModelSpec) -> PreparationPlan:
    """The part of the YAML that decides the rows."""
    return PreparationPlan(
        columns=spec.contract,
        target=spec.target,
        task=spec.task,
        prepare=spec.prepare,
        event_time=spec.source.event_time,
        csv=spec.source.csv,
    )


def work(
    raw_data: RawData,
    plan: PreparationPlan,
    lake: Lake,
    folder: Path,
    views: Mapping[str, FeatureView],
    stored: FeatureViews | None,
) -> None:
    """Fill the snapshot's folder from the pinned objects, and from the feature views where the model has some."""
    rows = lake.fetch(stored.prefix, stored.version) if stored else Path()
    files = {name: (view, rows / f"{name}.parquet") for name, view in views.items()}
    with lake.sources(raw_data.uri, raw_data.objects) as paths:
        prepare(paths, folder, plan, window=(raw_data.start, raw_data.end), views=files)


def report(
    handle: PreparedData,
    preparation: Preparation,
    prepare: Prepare,
    until: datetime | None,
    rows_before: int | None,
    table: Mapping[str, Any],
) -> StageReport:
    """Row counts and label rates, and whether the rows keep the contract."""
    rows, rates = handle.train_rows + handle.test_rows, dg.MetadataValue.json(preparation.label_rates)
    return StageReport(
        handle,
        handle.version,
        metadata={
            **table,
            "train_rows": handle.train_rows,
            "validation_rows": preparation.validation_rows,
            "test_rows": handle.test_rows,
            "rows_outside_window": preparation.rows_outside_window,
            "rows_with_nulls": preparation.rows_with_nulls,
            "duplicates": preparation.duplicates,
            "label_rates": rates,
            "snapshot": f"{handle.prefix}/{handle.version}",
            **({"data_until": until.isoformat()} if until else {}),
        },
        checks=[
            contract_check(preparation),
            dg.AssetCheckResult(check_name="label_rate", passed=True, metadata={"rates": rates}),
            dropped_rows_check(preparation, prepare),
            disjoint_check(preparation, prepare),
            row_count_check(rows, rows_before),
        ],
    )


def contract_check(preparation: Preparation) -> dg.AssetCheckResult:
    """Fails when values break the contract, and says which."""
    lines = [f"{v.column}: {v.count} rows break {v.rule}, such as {v.example}" for v in preparation.violations]
    rules = {violation.rule for violation in preparation.violations}
    remedies = ["correct the data"]
    if "finite" in rules:
        remedies.append("name the text of what has no finite value in source.csv.nulls, where the source is CSV")
    if rules - {"finite"}:
        remedies.append("widen the contract under columns")
    return dg.AssetCheckResult(
        check_name="contract",
        passed=not lines,
        description=f"{'; '.join(lines)}; {', or '.join(remedies)}." if lines else "All values keep it.",
    )


def dropped_rows_check(preparation: Preparation, prepare: Prepare) -> dg.AssetCheckResult:
    """Fails when a larger share of the rows was dropped than the YAML allows."""
    nulls, duplicates = preparation.rows_with_nulls, preparation.duplicates
    rows = preparation.train_rows + preparation.test_rows + nulls + duplicates
    share = (nulls + duplicates) / rows
    passed = share <= prepare.max_dropped
    description = f"{share:.1%} of {rows} rows are dropped: {nulls} for nulls, {duplicates} as duplicates"
    if not passed:
        missing = {name: found.nulls for name, found in preparation.columns.items() if found.nulls}
        worst = ", ".join(f"{name} ({missing[name]})" for name in sorted(missing, key=lambda name: -missing[name])[:3])
        description += f"; most values are missing in {worst}" if worst and nulls else ""
        description += (
            f". prepare.max_dropped allows {prepare.max_dropped:.0%}: correct the data, make columns nullable, "
            "or allow a larger share."
        )
    return dg.AssetCheckResult(
        check_name="dropped_rows", passed=passed, description=description, metadata={"dropped": share}
    )


def disjoint_check(preparation: Preparation, prepare: Prepare) -> dg.AssetCheckResult:
    """Fails when a row is in both parts, and warns when many are where equal rows are kept."""
    share = preparation.repeated_rows / preparation.test_rows
    return dg.AssetCheckResult(
        check_name="disjoint",
        passed=share <= (0 if prepare.drop_duplicates else REPEATED),
        severity=dg.AssetCheckSeverity.ERROR if prepare.drop_duplicates else dg.AssetCheckSeverity.WARN,
        description=f"{preparation.repeated_rows} rows of the test part ({share:.1%}) are equal to one to train on. "
        "Where they stand for the same thing, set prepare.drop_duplicates or prepare.split.by: group.",
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


def rows_before(instance: dg.DagsterInstance, key: dg.AssetKey, until: datetime | None) -> int | None:
    """The row count of the last materialization whose data is not newer: a backfill is not compared with today's."""
    records = instance.fetch_materializations(key, limit=100).records
    found = [record.asset_materialization.metadata for record in records if record.asset_materialization]
    if until is not None:
        ends = [(str(metadata["data_until"].value), metadata) for metadata in found if "data_until" in metadata]
        earlier = [(end, metadata) for end, metadata in ends if end <= until.isoformat()]
        newest = max((end for end, _ in earlier), default="")
        found = [metadata for end, metadata in earlier if end == newest]
    count = found[0].get("dagster/row_count") if found else None
    return count.value if count is not None and isinstance(count.value, int) else None
