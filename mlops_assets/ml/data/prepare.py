"""Turns source rows into train and test rows in bounded memory: contract, nulls, duplicates, target and split.

What comes out depends only on the rows that go in, not on their order, the files they lie in, or the threads used.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.contract import NamedColumn, Prepare, Target
from mlops_assets.ml.data.sources import cause_of, contract_rows, identifier, quoted, session
from mlops_assets.ml.data.split import test_condition
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Classes, Document, Task, Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MAX_CLASSES = 100


class PreparationPlan(Value):
    """Everything that decides the prepared rows."""

    columns: tuple[NamedColumn, ...]
    target: Target
    task: Task
    prepare: Prepare
    event_time: str | None


class Violation(Value):
    """Rows that break a rule of the contract."""

    column: str
    rule: str
    count: int
    example: str


class ColumnStatistics(Value):
    """A column over all rows that were read."""

    nulls: int
    min: str | None
    max: str | None


class Preparation(Document):
    """What was read, what was dropped and what came out."""

    FILE = "report.json"

    rows_read: int
    rows_outside_window: int
    rows_with_nulls: int
    duplicates: int
    train_rows: int
    test_rows: int
    overlap: int
    classes: Classes | None
    label_rates: dict[str, dict[str, float]]
    columns: dict[str, ColumnStatistics]
    violations: tuple[Violation, ...]


def prepare(
    sources: Sequence[Path],
    out: Path,
    plan: PreparationPlan,
    *,
    threads: int = 2,
    window: tuple[datetime | None, datetime | None] = (None, None),
) -> Preparation:
    """Write train.parquet, test.parquet and report.json into `out`.

    Numbers and booleans become float32, categories strings, and the target a float32 (regression) or the int64 index
    of its class. Rows are in an order of their own, by the digest of their content.

    Raises:
        DataError: nothing is left to learn from, or the target does not fit the task.
    """
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folders = {path.parent for path in sources} | {out}
        # What sorting needs grows with the width of a row and not with the number of rows: the rest spills
        memory_limit_mib = 112 + 4 * len(plan.columns)
        connection = session(folders, Path(scratch), memory_limit_mib, threads)
        connection.execute(f"CREATE VIEW source AS {contract_rows(sources, plan.columns)}")
        connection.execute(f"CREATE VIEW windowed AS SELECT * FROM source WHERE {_inside(plan.event_time, window)}")
        statistics, violations = _inspect(connection, plan)
        classes = _target(connection, plan)
        report = _write(connection, out, plan, classes, statistics, violations)
    report.write(out)
    return report


def _inside(event_time: str | None, window: tuple[datetime | None, datetime | None]) -> str:
    start, end = window
    if event_time is None or (start is None and end is None):
        return "true"
    column = identifier(event_time)
    rules = [f"{column} >= TIMESTAMP {quoted(f'{start:%Y-%m-%d %H:%M:%S}')}"] if start else []
    rules += [f"{column} < TIMESTAMP {quoted(f'{end:%Y-%m-%d %H:%M:%S}')}"] if end else []
    return " AND ".join(rules)


def _inspect(connection: Any, plan: PreparationPlan) -> tuple[dict[str, ColumnStatistics], list[Violation]]:
    """Statistics of every column, and the rows that break a rule, in one pass."""
    rules = [(column, rule, condition) for column in plan.columns for rule, condition in _rules(column, plan)]
    selected = {"rows": "count(*)"}
    for index, column in enumerate(plan.columns):
        name = identifier(column.name)
        selected |= {f"count_{index}": f"count({name})"}
        selected |= {f"{limit}_{index}": f"CAST({limit}({name}) AS VARCHAR)" for limit in ("min", "max")}
    for index, (column, _, condition) in enumerate(rules):
        selected[f"broken_{index}"] = f"count(*) FILTER ({condition})"
        selected[f"example_{index}"] = f"CAST(min({identifier(column.name)}) FILTER ({condition}) AS VARCHAR)"
    values = connection.execute(f"SELECT {', '.join(selected.values())} FROM windowed").fetchone()
    found = dict(zip(selected, values, strict=True))
    if found["rows"] == 0:
        remedy = "widen source.window, or choose another last_partition"
        raise DataError("No row lies in the time window", remedy=remedy)
    statistics = dict[str, ColumnStatistics]()
    for index, column in enumerate(plan.columns):
        nulls = found["rows"] - found[f"count_{index}"]
        if nulls == found["rows"]:
            what = f"Column {column.name} has no value in any of {nulls} rows"
            raise DataError(what, remedy="correct the data, or drop the column")
        statistics[column.name] = ColumnStatistics(nulls=nulls, min=found[f"min_{index}"], max=found[f"max_{index}"])
    violations = [
        Violation(column=column.name, rule=rule, count=count, example=str(found[f"example_{index}"]))
        for index, (column, rule, _) in enumerate(rules)
        if (count := found[f"broken_{index}"])
    ]
    return statistics, violations


def _rules(column: NamedColumn, plan: PreparationPlan) -> list[tuple[str, str]]:
    """Each rule of the contract in words, and the SQL of the rows that break it."""
    name = identifier(column.name)
    rules = list[tuple[str, str]]()
    if column.type == "number":
        rules.append(("finite", f"isinf({name})"))
        if column.min is not None:
            rules.append((f"min {column.min:g}", f"{name} < {column.min!r} AND NOT isinf({name})"))
        if column.max is not None:
            rules.append((f"max {column.max:g}", f"{name} > {column.max!r} AND NOT isinf({name})"))
    if column.values is not None:
        allowed = ", ".join(quoted(value) for value in column.values)
        rules.append((f"values {', '.join(column.values)}", f"{name} NOT IN ({allowed})"))
    if not column.nullable and not plan.prepare.drop_nulls:
        rules.append(("nullable: false", f"{name} IS NULL"))
    return rules


def _target(connection: Any, plan: PreparationPlan) -> Classes | None:
    """Create the view `labelled`, whose column __target is the target's value; give the classes, if it has some."""
    import duckdb

    expression = plan.target.from_ or identifier(plan.target.column)
    try:
        connection.execute(f"CREATE VIEW labelled AS SELECT *, ({expression}) AS __target FROM windowed")
        (kind,) = connection.execute("SELECT any_value(typeof(__target)) FROM labelled").fetchone()
        values = connection.execute(
            f"SELECT DISTINCT __target FROM labelled WHERE __target IS NOT NULL ORDER BY 1 LIMIT {MAX_CLASSES + 1}"
        ).fetchall()
    except duckdb.Error as error:
        raise DataError(f"{expression} cannot be computed ({cause_of(error)})", where="target.from") from error
    if plan.task == "regression":
        if not any(number in kind for number in ("INT", "FLOAT", "DOUBLE", "DECIMAL")):
            raise DataError(f"Regression needs a number, but {plan.target.column} is of type {kind}")
        return None
    return _classes([value for (value,) in values], plan)


def _classes(values: list[Any], plan: PreparationPlan) -> Classes:
    kind = next((column.type for column in plan.columns if column.name == plan.target.column), None)
    if kind == "boolean" and plan.target.from_ is None:
        values = [bool(value) for value in values]
    values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    name, shown = plan.target.column, ", ".join(str(value) for value in values[:5])
    if len(values) < 2:
        raise DataError(
            f"{name} has only the class {shown or 'NULL'}", remedy="a classifier needs rows of at least two classes"
        )
    if len(values) > MAX_CLASSES:
        raise DataError(
            f"{name} has more than {MAX_CLASSES} classes ({shown}, ...)", remedy="did you mean task: regression?"
        )
    if plan.task == "binary_classification" and len(values) != 2:
        raise DataError(f"{name} has {len(values)} classes ({shown})", remedy="use task: multiclass_classification")
    return tuple(values)


def _write(
    connection: Any,
    out: Path,
    plan: PreparationPlan,
    classes: Classes | None,
    statistics: dict[str, ColumnStatistics],
    violations: list[Violation],
) -> Preparation:
    names = [column.name for column in plan.columns if column.name != plan.target.column]
    required = [
        "__target",
        *(identifier(c.name) for c in plan.columns if not c.nullable and c.name != plan.target.column),
    ]
    keep = [name for name in required if plan.prepare.drop_nulls or name == "__target"]
    complete = " AND ".join(f"{name} IS NOT NULL" for name in keep)
    rows_read, in_window, rows = connection.execute(
        f"SELECT (SELECT count(*) FROM source), count(*), count(*) FILTER ({complete}) FROM labelled"
    ).fetchone()
    if rows == 0:
        raise DataError(f"None of {in_window} rows is complete: each lacks the target or a column that is not nullable")
    selected = ", ".join([*map(identifier, names), f"{_encoded(classes)} AS {identifier(plan.target.column)}"])
    text = ", ".join(f"coalesce(CAST({identifier(n)} AS VARCHAR), chr(0))" for n in [*names, plan.target.column])
    distinct = "DISTINCT" if plan.prepare.drop_duplicates else ""
    connection.execute(
        f"CREATE TEMP TABLE kept AS SELECT {distinct} *, "
        f"md5_number(concat_ws(chr(1), '{plan.prepare.split.seed}', {text})) AS __key "
        f"FROM (SELECT {selected} FROM labelled WHERE {complete})"
    )
    test = test_condition(plan.prepare.split, plan.event_time, connection)
    columns = ", ".join(map(identifier, [*names, plan.target.column]))
    for part, condition in (("train", f"NOT ({test})"), ("test", test)):
        connection.execute(
            f"COPY (SELECT {columns} FROM kept WHERE {condition} ORDER BY __key) "
            f"TO {quoted(str(out / f'{part}.parquet'))} (FORMAT parquet, ROW_GROUP_SIZE 65536)"
        )
    counts = {part: _label_counts(connection, out / f"{part}.parquet", plan, classes) for part in ("train", "test")}
    for part, found in counts.items():
        if not found or (classes is not None and len(found) < len(classes)):
            missing = ", ".join(str(c) for i, c in enumerate(classes or ()) if i not in found)
            lacking = f"no row of class {missing}" if found else "no rows"
            raise DataError(f"The {part} part has {lacking}", remedy="bring more data, or change prepare.split")
    train_rows, test_rows = (sum(found.values()) for found in counts.values())
    overlap = connection.execute(
        f"SELECT count(*) FROM (SELECT * FROM read_parquet({quoted(str(out / 'train.parquet'))}) INTERSECT "
        f"SELECT * FROM read_parquet({quoted(str(out / 'test.parquet'))}))"
    ).fetchone()[0]
    rates = {
        part: {str(classes[i]): n / sum(found.values()) for i, n in found.items()} if classes else {}
        for part, found in counts.items()
    }
    return Preparation(
        rows_read=rows_read,
        rows_outside_window=rows_read - in_window,
        rows_with_nulls=in_window - rows,
        duplicates=rows - train_rows - test_rows,
        train_rows=train_rows,
        test_rows=test_rows,
        overlap=overlap,
        classes=classes,
        label_rates=rates,
        columns=statistics,
        violations=tuple(violations),
    )


def _encoded(classes: Classes | None) -> str:
    """The SQL of the target as it is learnt."""
    if classes is None:
        return "CAST(__target AS FLOAT)"
    if isinstance(classes[0], bool):
        return "CAST(__target AS BIGINT)"
    values = ", ".join(quoted(c) if isinstance(c, str) else repr(c) for c in classes)
    return f"CAST(list_position([{values}], __target) - 1 AS BIGINT)"


def _label_counts(connection: Any, path: Path, plan: PreparationPlan, classes: Classes | None) -> dict[int, int]:
    label = identifier(plan.target.column) if classes else "0"
    rows = connection.execute(f"SELECT {label}, count(*) FROM read_parquet({quoted(str(path))}) GROUP BY 1 ORDER BY 1")
    return dict(rows.fetchall())
