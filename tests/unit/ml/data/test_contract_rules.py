"""Rows that break a rule of the contract: they are counted under the rule, with an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.data.contract import NamedColumn, Prepare
from mlops_assets.ml.data.contract_rules import rules_of
from tests.preparation import COLUMNS, plan, prepare_frames
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path


BROKEN_ROWS = {
    "above max": ({"pressure": 1500.0}, "pressure", "max 1100"),
    "below min": ({"pressure": 3.0}, "pressure", "min 900"),
    "infinity": ({"pressure": np.inf}, "pressure", "finite"),
    "minus infinity": ({"humidity": -np.inf}, "humidity", "finite"),
}


@pytest.mark.parametrize(("change", "column", "rule"), BROKEN_ROWS.values(), ids=BROKEN_ROWS)
def test_a_row_that_breaks_the_contract_is_counted(
    tmp_path: Path, change: dict[str, Any], column: str, rule: str
) -> None:
    frame = weather()
    for name, value in change.items():
        frame.loc[7, name] = value
    [violation] = prepare_frames(tmp_path, [frame]).violations
    assert (violation.column, violation.rule, violation.count) == (column, rule, 1)


def test_a_category_that_is_not_allowed(tmp_path: Path) -> None:
    allowed = NamedColumn(name="place", type="category", values=("Bern", "Zürich"))
    [violation] = prepare_frames(tmp_path, [weather()], plan(columns=(allowed, *COLUMNS[1:]))).violations
    assert (violation.rule, violation.example) == ("values Bern, Zürich", "Genève")


def test_nulls_that_are_not_to_be_dropped_break_the_contract(tmp_path: Path) -> None:
    frame = weather()
    frame.loc[:4, "place"] = None
    [violation] = prepare_frames(tmp_path, [frame], plan(prepare=Prepare(drop_nulls=False))).violations
    assert (violation.column, violation.rule, violation.count) == ("place", "nullable: false", 5)


def test_a_limit_is_compared_in_the_precision_of_the_column(tmp_path: Path) -> None:
    share = NamedColumn(name="share", type="number", max=0.1)
    rows = weather().assign(share=np.float32(0.1))
    assert prepare_frames(tmp_path, [rows], plan(columns=(*COLUMNS, share))).violations == ()


def test_a_column_without_limits_has_the_rules_of_its_type_alone() -> None:
    assert rules_of(NamedColumn(name="n", type="number", nullable=True), "c0", "BIGINT", drop_nulls=True) == []
    assert [rule for rule, _ in rules_of(NamedColumn(name="n", type="number"), "c0", "DOUBLE", drop_nulls=False)] == [
        "finite",
        "nullable: false",
    ]
