"""prepared_data: what its checks say of the rows."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from mlops_assets.assets.prepared_data import (
    contract_check,
    disjoint_check,
    dropped_rows_check,
    preparation_plan,
    row_count_check,
    rows_before,
)
from mlops_assets.ml.data.contract import Prepare
from mlops_assets.ml.data.preparation import ColumnStatistics, Preparation, Violation
from tests.support import spec

MARCH, APRIL = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
KEPT = Preparation(
    rows_read=10,
    rows_outside_window=0,
    rows_with_nulls=0,
    duplicates=0,
    train_rows=8,
    validation_rows=1,
    test_rows=2,
    repeated_rows=0,
    classes=None,
    label_rates={},
    columns={},
    violations=(),
    test_from=None,
)


def test_the_plan_is_what_of_the_yaml_decides_the_rows() -> None:
    before = preparation_plan(spec())
    assert preparation_plan(spec(train__seed=7, description="x", gate__at_least=0.9)) == before
    assert preparation_plan(spec(prepare__split__seed=7)) != before
    assert preparation_plan(spec(columns__pressure__max=2000)) != before


def test_broken_values_are_named_with_an_example() -> None:
    found = Violation(column="pressure", rule="max 1100", count=3, example="1500")
    result = contract_check(KEPT.model_copy(update={"violations": (found,)}))
    assert not result.passed
    assert result.description is not None
    assert "pressure: 3 rows break max 1100, such as 1500; correct the data" in result.description
    assert contract_check(KEPT).passed


def test_a_row_in_both_parts_fails_where_equal_rows_are_dropped_and_is_a_warning_elsewhere() -> None:
    twice = KEPT.model_copy(update={"repeated_rows": 1})
    assert disjoint_check(KEPT, Prepare(drop_duplicates=True)).passed
    for prepare, severity in ((Prepare(drop_duplicates=True), "ERROR"), (Prepare(), "WARN")):
        result = disjoint_check(twice, prepare)
        assert (result.passed, result.severity.name) == (False, severity)


def test_too_many_dropped_rows_stop_the_pipeline_and_say_why() -> None:
    lost = KEPT.model_copy(
        update={"rows_with_nulls": 90, "columns": {"humidity": ColumnStatistics(nulls=90, min="1", max="2")}}
    )
    result = dropped_rows_check(lost, Prepare())
    assert not result.passed
    assert "90.0% of 100 rows are dropped: 90 for nulls, 0 as duplicates; most values are missing in humidity (90)" in (
        result.description or ""
    )
    assert dropped_rows_check(lost, Prepare(max_dropped=0.9)).passed
    assert dropped_rows_check(KEPT, Prepare(max_dropped=0)).passed


@pytest.mark.parametrize(
    ("before", "passed"), [(None, True), (0, True), (100, True), (67, True), (60, False), (200, True), (201, False)]
)
def test_a_row_count_that_changes_by_more_than_half_is_a_warning(before: int | None, passed: bool) -> None:
    result = row_count_check(100, before)
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)


def test_a_row_count_is_compared_with_the_last_one_of_data_that_is_not_newer() -> None:
    key = dg.AssetKey(["weather", "prepared_data"])
    with dg.instance_for_test() as instance:
        assert rows_before(instance, key, APRIL) is None
        for rows, until in ((300, APRIL), (310, APRIL), (200, MARCH)):  # March is a backfill
            metadata = {"dagster/row_count": rows, "data_until": until.isoformat()}
            instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))
        assert rows_before(instance, key, APRIL) == 310
        assert rows_before(instance, key, MARCH) == 200
        assert rows_before(instance, key, datetime(2025, 2, 1, tzinfo=UTC)) is None
        assert rows_before(instance, key, None) == 200
