"""The rules of the contract, in words and in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.data.sources import FLOATS, LARGEST_FLOAT32, quoted

if TYPE_CHECKING:
    from mlops_assets.ml.data.contract import NamedColumn


def rules_of(column: NamedColumn, name: str, sql_type: str, *, drop_nulls: bool) -> list[tuple[str, str]]:
    """Each rule of a column in words, and the SQL of the rows that break it, in which `name` is of the type `sql_type`.

    With `drop_nulls`, a value that is missing breaks no rule: its row is dropped.
    """
    rules = list[tuple[str, str]]()
    if column.type == "number":
        finite = f"abs({name}) <= CAST({LARGEST_FLOAT32} AS DOUBLE)" if sql_type in FLOATS else "true"
        if finite != "true":
            rules.append(("finite", f"NOT ({finite})"))
        # A limit is compared as what the column holds: as float64, 0.1 is above 0.1 as float32
        kind = "FLOAT" if sql_type == "FLOAT" else "DOUBLE"
        if column.min is not None:
            rules.append((f"min {column.min:g}", f"{name} < CAST({column.min!r} AS {kind}) AND {finite}"))
        if column.max is not None:
            rules.append((f"max {column.max:g}", f"{name} > CAST({column.max!r} AS {kind}) AND {finite}"))
    if column.values is not None:
        allowed = ", ".join(quoted(value) for value in column.values)
        rules.append((f"values {', '.join(column.values)}", f"{name} NOT IN ({allowed})"))
    if not column.nullable and not drop_nulls:
        rules.append(("nullable: false", f"{name} IS NULL"))
    return rules
