"""Turns source rows into train and test rows in bounded memory: contract, nulls, duplicates, target and split.

What comes out depends only on the rows that go in, not on their order, the files they lie in, or the threads used.
Inside, columns have names of our own (`c0`, `c1`, ...), so that those of the user can collide with nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.classes import MAX_CLASSES, classes_of
from mlops_assets.ml.data.contract_rules import rules_of
from mlops_assets.ml.data.machine import memory_limit_mib, threads_for
from mlops_assets.ml.data.preparation import ColumnStatistics, Preparation, Violation
from mlops_assets.ml.data.sources import (
    FLOATS,
    NUMBERS,
    base_type,
    cause_of,
    columns_of,
    contract_rows,
    identifier,
    out_of_memory,
    quoted,
    relation,
    row_digest,
    session,
)
from mlops_assets.ml.data.split import PARTS, assign_parts
from mlops_assets.ml.data.stored_values import join_views
from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mlops_assets.ml.data.contract import NamedColumn
    from mlops_assets.ml.data.feature_view import FeatureView
    from mlops_assets.ml.data.preparation import PreparationPlan
    from mlops_assets.ml.values import Classes

ROW_GROUP_BYTES = 16 << 20
KEY = "\x01key"  # names that no column can have
GROUP = "\x01group"
NO_VIEWS: Mapping[str, tuple[FeatureView, Path]] = MappingProxyType({})


def prepare(
    sources: Sequence[Path],
    out: Path,
    plan: PreparationPlan,
    *,
    threads: int | None = None,
    memory_mib: int | None = None,
    window: tuple[datetime | None, datetime | None] = (None, None),
    views: Mapping[str, tuple[FeatureView, Path]] = NO_VIEWS,
) -> Preparation:
    """Write train.parquet, test.parquet and report.json into `out`; rows get the features of `views`, by their files.

    Numbers are float64 (float32 where the source is), categories text, booleans BOOLEAN, timestamps naive UTC, and the
    target float64 (regression) or the int64 index of its class. Rows are in an order of their own, by the digest of
    their content, those for validation last in the train part. Memory and threads are what the machine has unless they
    are given; what does not fit is spilled beside `out`.

    Raises:
        DataError: nothing is left to learn from, or the target does not fit the task.
    """
    import duckdb

    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folders = {path.parent for path in sources} | {file.parent for _, file in views.values()} | {out}
        memory = memory_mib or memory_limit_mib()
        rows = _Rows(session(folders, Path(scratch), memory, threads or threads_for(len(plan.columns))), plan, views)
        try:
            rows.read(sources, window)
            report = rows.write(out)
        except duckdb.OutOfMemoryException as error:
            raise out_of_memory(error) from error
        except duckdb.Error as error:
            what = f"The rows cannot be prepared ({cause_of(error)})"
            raise DataError(what, remedy="make room on the disk, or materialize raw_data again") from error
    report.write(out)
    return report


class _Rows:
    """The rows of a preparation, in a DuckDB session: `labelled` as they are read, `kept` as they are written."""

    def __init__(self, connection: Any, plan: PreparationPlan, views: Mapping[str, tuple[FeatureView, Path]]) -> None:
        self.connection, self.plan, self.views = connection, plan, views
        self.columns = (*plan.columns, *(column for view, _ in views.values() for column in view.columns))
        self.names = {column.name: f"c{index}" for index, column in enumerate(self.columns)}
        self.types = dict[str, str]()

    def read(self, sources: Sequence[Path], window: tuple[datetime | None, datetime | None]) -> None:
        """Create the table `labelled`: columns c0, c1, ..., y (the target), k (the row's digest), g (its group's)."""
        import duckdb

        plan, csv = self.plan, self.plan.csv
        found = columns_of(self.connection, sources, csv)
        split = plan.prepare.split
        digests = {KEY: row_digest(found, split.seed), GROUP: _group_digest(split.seed, split.column)}
        source = contract_rows(sources, plan.columns, found, csv, digests)
        inside = _inside(plan.event_time, window)
        selected = [f"{identifier(column.name)} AS {self.names[column.name]}" for column in plan.columns]
        selected.append(f"({plan.target.from_ or identifier(plan.target.column)}\n) AS y")
        selected += [f"{identifier(KEY)} AS k", f"{identifier(GROUP)} AS g"]
        try:
            self.connection.execute(
                f"CREATE TEMP TABLE labelled AS SELECT {', '.join(selected)} FROM ({source}) WHERE {inside}"
            )
        except (duckdb.OutOfMemoryException, duckdb.IOException):
            raise
        except duckdb.Error as error:
            if plan.target.from_ is None:
                raise
            what = f"{plan.target.from_} cannot be computed ({cause_of(error)})"
            raise DataError(what, where="target.from", remedy="correct the expression") from error
        if self.views:
            assert plan.event_time is not None
            join_views(self.connection, "labelled", self.names[plan.event_time], self.names, self.views)
        counted = "labelled" if inside == "true" else relation(sources, csv)
        (self.rows_read,) = self.connection.execute(f"SELECT count(*) FROM {counted}").fetchone()
        self.types = dict(
            self.connection.execute("SELECT column_name, column_type FROM (DESCRIBE labelled)").fetchall()
        )

    def write(self, out: Path) -> Preparation:
        """Write the two parts, and say what became of the rows."""
        statistics, violations, in_window, width = self._inspect()
        classes, broken = self._encode_target()
        with_nulls, duplicates = self._keep(in_window)
        test_from = assign_parts(
            self.connection,
            self.plan.prepare.split,
            self.names[self.plan.event_time] if self.plan.event_time else None,
            by_class=classes is not None,
        )
        group_rows = max(2_048, min(65_536, ROW_GROUP_BYTES // max(width, 1)))
        for part, codes in PARTS.items():
            of_part = f"part IN ({', '.join(map(str, codes))})"
            self.connection.execute(
                f"COPY (SELECT {', '.join(self._written())} FROM parted WHERE {of_part} ORDER BY part, key) "
                f"TO {quoted(str(out / f'{part}.parquet'))} (FORMAT parquet, ROW_GROUP_SIZE {group_rows})"
            )
        counts, validation_rows = self._label_counts(classes)
        train_rows, test_rows = (sum(found.values()) for found in counts.values())
        if with_nulls + duplicates + train_rows + test_rows != in_window:
            raise DataError(f"{in_window} rows were read, but {train_rows + test_rows} were written")
        rates = {
            part: {str(classes[i]): n / sum(found.values()) for i, n in found.items()} if classes else {}
            for part, found in counts.items()
        }
        return Preparation(
            rows_read=self.rows_read,
            rows_outside_window=self.rows_read - in_window,
            rows_with_nulls=with_nulls,
            duplicates=duplicates,
            train_rows=train_rows,
            validation_rows=validation_rows,
            test_rows=test_rows,
            repeated_rows=self._repeated(out),
            classes=classes,
            label_rates=rates,
            columns=statistics,
            violations=(*violations, *broken),
            test_from=test_from,
        )

    def _inspect(self) -> tuple[dict[str, ColumnStatistics], list[Violation], int, int]:
        """Statistics of every column, the rows that break a rule, the number of rows and the mean bytes of one."""
        plan = self.plan
        rules = [
            (column, rule, condition)
            for column in self.columns
            for rule, condition in rules_of(
                column, self.names[column.name], self.types[self.names[column.name]], drop_nulls=plan.prepare.drop_nulls
            )
        ]
        selected = {"rows": "count(*)", "width": f"avg({' + '.join(map(self._bytes, self.names.values()))})"}
        for name in self.names.values():
            selected[f"count_{name}"] = f"count({name})"
            selected |= {f"{limit}_{name}": f"CAST({limit}({name}) AS VARCHAR)" for limit in ("min", "max")}
        for index, (_, _, condition) in enumerate(rules):
            selected[f"broken_{index}"] = f"count(*) FILTER ({condition})"
        values = self.connection.execute(f"SELECT {', '.join(selected.values())} FROM labelled").fetchone()
        found = dict(zip(selected, values, strict=True))
        if found["rows"] == 0:
            remedy = "widen source.window, or choose another last_partition"
            raise DataError("No row lies in the time window", remedy=remedy)
        statistics = dict[str, ColumnStatistics]()
        for public, name in self.names.items():
            nulls = found["rows"] - found[f"count_{name}"]
            if nulls == found["rows"]:
                what = f"Column {public} has no value in any of {nulls} rows"
                raise DataError(what, remedy="correct the data, or drop the column")
            statistics[public] = ColumnStatistics(nulls=nulls, min=found[f"min_{name}"], max=found[f"max_{name}"])
        violations = [
            Violation(column=column.name, rule=rule, count=count, example=self._example(column, condition))
            for index, (column, rule, condition) in enumerate(rules)
            if (count := found[f"broken_{index}"])
        ]
        return statistics, violations, found["rows"], int(found["width"] or 0)

    def _example(self, column: NamedColumn, condition: str) -> str:
        """The smallest of the values that break a rule."""
        name = self.names[column.name]
        return str(
            self.connection.execute(f"SELECT CAST(min({name}) AS VARCHAR) FROM labelled WHERE {condition}").fetchone()[
                0
            ]
        )

    def _bytes(self, name: str) -> str:
        return f"coalesce(strlen({name}), 0)" if self.types[name] == "VARCHAR" else "8"

    def _encode_target(self) -> tuple[Classes | None, list[Violation]]:
        """Find the target's classes, or what breaks a number; `encoded` is the SQL of the target as it is learnt."""
        kind, target = base_type(self.types["y"]), self.plan.target
        if self.plan.task == "regression":
            if kind not in NUMBERS:
                remedy = "use epoch(...) for seconds" if kind == "INTERVAL" else "use an expression that gives a number"
                what = f"Regression needs a number, but {target.column} is of the type {self.types['y']}"
                raise DataError(what, where="target", remedy=remedy)
            self.encoded = "CASE WHEN isnan(CAST(y AS DOUBLE)) THEN NULL ELSE CAST(y AS DOUBLE) END"
            return None, self._infinite_targets(kind)
        if not kind:
            what = f"{target.column} is of the type {self.types['y']}"
            raise DataError(what, where="target", remedy="a class is a number, a text, a boolean or a moment")
        # What is no number and no boolean is known by its text
        as_label = "y" if kind in {*NUMBERS, "BOOLEAN", "VARCHAR"} else "CAST(y AS VARCHAR)"
        if kind in FLOATS:
            as_label = "CASE WHEN isnan(y) THEN NULL WHEN y = 0 THEN 0 ELSE y END"
        if kind == "VARCHAR":
            as_label = "CASE WHEN y <> '' THEN y END"
        self.connection.execute(
            f"CREATE TEMP TABLE classes AS SELECT label, row_number() OVER (ORDER BY label) - 1 AS index "
            f"FROM (SELECT DISTINCT {as_label} AS label FROM labelled) WHERE label IS NOT NULL "
            f"ORDER BY 1 LIMIT {MAX_CLASSES + 1}"
        )
        found = self.connection.execute("SELECT label, index FROM classes ORDER BY index").fetchall()
        classes = classes_of([value for value, _ in found], kind, self.plan)
        # The positive class of two is the last one
        if target.positive is not None and classes[0] == target.positive:
            self.connection.execute("UPDATE classes SET index = 1 - index")
            classes = (classes[1], classes[0])
        self.encoded = f"(SELECT index FROM classes WHERE label = ({as_label}))"
        if kind == "BOOLEAN":
            self.encoded = f"CAST(y = {str(bool(classes[1])).lower()} AS BIGINT)"
        return classes, self._infinite_targets(kind)

    def _infinite_targets(self, kind: str) -> list[Violation]:
        """The rows whose computed target is infinite; a column of the contract has its own rule."""
        if self.plan.target.from_ is None or kind not in FLOATS:
            return []
        (count,) = self.connection.execute("SELECT count(*) FROM labelled WHERE isinf(y)").fetchone()
        return [Violation(column=self.plan.target.column, rule="finite", count=count, example="inf")] if count else []

    def _keep(self, in_window: int) -> tuple[int, int]:
        """Create the table `kept`: complete rows, each under a key of its own; rows with nulls, and duplicates."""
        prepare, target = self.plan.prepare, self.plan.target.column
        features = [inner for name, inner in self.names.items() if name != target]
        required = [self.names[c.name] for c in self.columns if not c.nullable and c.name != target]
        # A row without a time is in no window and on no side
        timed = [self.names[self.plan.event_time]] if self.plan.event_time and prepare.split.by == "time" else []
        complete = " AND ".join(
            f"{name} IS NOT NULL" for name in ("label", *timed, *(required if prepare.drop_nulls else ()))
        )
        values = "".join(f"{name}, " for name in features)
        self.connection.execute(
            f"CREATE TEMP VIEW complete AS SELECT * "
            f"FROM (SELECT *, rowid AS id, {self.encoded} AS label FROM labelled) WHERE {complete}"
        )
        if prepare.drop_duplicates:
            position = "min(g)" if prepare.split.by == "group" else "min(k)"
            self.connection.execute(
                f"CREATE TEMP TABLE kept AS SELECT {values}label, min(k) AS key, {position} AS position "
                f"FROM complete GROUP BY {values}label"
            )
        else:
            # Equal rows are told apart by a number, so that each has a side of its own
            self.connection.execute(
                "CREATE TEMP TABLE numbers AS SELECT rowid AS id, row_number() OVER (PARTITION BY k) - 1 AS n "
                "FROM labelled SEMI JOIN (SELECT k FROM labelled GROUP BY k HAVING count(*) > 1) USING (k)"
            )
            key = "CASE WHEN n > 0 THEN xor(k, md5_number(concat('#', n))) ELSE k END"
            position = "g" if prepare.split.by == "group" else key
            self.connection.execute(
                f"CREATE TEMP VIEW kept AS SELECT {values}label, {key} AS key, {position} AS position "
                "FROM complete LEFT JOIN numbers USING (id)"
            )
        (rows,) = kept = self.connection.execute("SELECT count(*) FROM complete").fetchone()
        if prepare.drop_duplicates:
            kept = self.connection.execute("SELECT count(*) FROM kept").fetchone()
        if rows == 0:
            what = f"None of {in_window} rows is complete: each lacks the target or a column that is not nullable"
            raise DataError(what, remedy="make columns nullable, or correct the data")
        return in_window - rows, rows - kept[0]

    def _written(self) -> list[str]:
        """The SQL of each column of the two parts, under its public name."""
        target = self.plan.target.column
        written = list[str]()
        for column in self.columns:
            inner = self.names[column.name]
            if column.name == target:
                continue
            value = f"CAST({inner} AS DOUBLE)" if column.type == "number" and self.types[inner] != "FLOAT" else inner
            written.append(f"{value} AS {identifier(column.name)}")
        return [*written, f"label AS {identifier(target)}"]

    def _label_counts(self, classes: Classes | None) -> tuple[dict[str, dict[int, int]], int]:
        """The rows of each class in each part, and the rows for validation."""
        label = "label" if classes else "0"
        rows = self.connection.execute(
            f"SELECT part, {label}, count(*) FROM parted GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        counts = dict[str, dict[int, int]]()
        for part, codes in PARTS.items():
            found = dict[int, int]()
            for code, index, count in rows:
                if code in codes:
                    found[index] = found.get(index, 0) + count
            if not found or (classes is not None and len(found) < len(classes)):
                missing = ", ".join(str(c) for i, c in enumerate(classes or ()) if i not in found)
                lacking = f"no row of class {missing}" if found else "no rows"
                raise DataError(f"The {part} part has {lacking}", remedy="bring more data, or change prepare.split")
            counts[part] = found
        return counts, sum(count for code, _, count in rows if code == 1)

    def _repeated(self, out: Path) -> int:
        """The rows of the test part that are equal to one of the train part."""
        train, test = (f"read_parquet({quoted(str(out / f'{part}.parquet'))})" for part in PARTS)
        return self.connection.execute(
            f"SELECT count(*) FROM (SELECT * FROM {test} INTERSECT SELECT * FROM {train})"
        ).fetchone()[0]


def _inside(event_time: str | None, window: tuple[datetime | None, datetime | None]) -> str:
    start, end = window
    if event_time is None or (start is None and end is None):
        return "true"
    column = identifier(event_time)
    rules = [f"{column} >= TIMESTAMP {quoted(f'{start:%Y-%m-%d %H:%M:%S}')}"] if start else []
    rules += [f"{column} < TIMESTAMP {quoted(f'{end:%Y-%m-%d %H:%M:%S}')}"] if end else []
    return f"{column} IS NULL OR ({' AND '.join(rules)})"


def _group_digest(seed: int, group: str | None) -> str:
    return f"md5_number(concat('{seed}:', CAST({identifier(group)} AS VARCHAR)))" if group else "0::UHUGEINT"
