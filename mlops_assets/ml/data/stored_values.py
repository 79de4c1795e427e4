"""The rows of feature views: brought into one form, and joined to a model's rows as they were known at each one's time.

One file for a view, `<view>.parquet`, with the entity's columns under the model's names, `event_timestamp` (naive UTC)
and the features. It has one row for an entity and a moment, in the order of both.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.contract import CsvDialect, NamedColumn
from mlops_assets.ml.data.feature_view import EVENT_TIME
from mlops_assets.ml.data.machine import memory_limit_mib, threads_for
from mlops_assets.ml.data.source_checks import check_sources
from mlops_assets.ml.data.sources import (
    columns_of,
    contract_rows,
    identifier,
    out_of_memory,
    quoted,
    session,
)
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Document, Value

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from mlops_assets.ml.data.feature_view import FeatureView

ROW_GROUP = 122_880
BATCH = 10_000


class ViewRows(Value):
    """What became of a source's rows: without an entity or a time they are left out, and of equal ones one stays."""

    rows: int
    incomplete: int
    duplicates: int
    first_event: datetime
    last_event: datetime

    @property
    def kept(self) -> int:
        """The rows that are in the view."""
        return self.rows - self.incomplete - self.duplicates


class StoredValues(Document):
    """The views that lie in a folder."""

    FILE = "views.json"

    views: dict[str, ViewRows]


def write_view(
    name: str,
    view: FeatureView,
    event_time: str,
    sources: Sequence[Path],
    out: Path,
    csv: CsvDialect,
    *,
    memory_mib: int | None = None,
) -> ViewRows:
    """Bring a source's rows into the form of a view, as `<name>.parquet` in `out`, in bounded memory.

    Of several rows of one entity and one moment, that with the greatest values stays, feature by feature in their
    order: whatever the order of files, it is the same one.

    Raises:
        DataError: the source does not hold what the view says, or no row with an entity and a time.
    """
    import duckdb

    keys = {column: NamedColumn(name=source, type="category", nullable=True) for column, source in view.entity.items()}
    time = NamedColumn(name=event_time, type="timestamp", nullable=True)
    features = [column.model_copy(update={"nullable": True}) for column in view.columns]
    contract = [*keys.values(), time, *features]
    check_sources(sources, [column.model_copy(update={"nullable": False}) for column in contract], csv=csv)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        memory, threads = memory_mib or memory_limit_mib(), threads_for(len(contract))
        connection = session({path.parent for path in sources} | {out}, Path(scratch), memory, threads)
        rows = contract_rows(sources, contract, columns_of(connection, sources, csv), csv)
        entity = [f"{identifier(column.name)} AS {identifier(name)}" for name, column in keys.items()]
        values = [_stored(column) for column in features]
        selected = ", ".join([*entity, f"{identifier(event_time)} AS {EVENT_TIME}", *values])
        key = ", ".join([*map(identifier, keys), EVENT_TIME])
        complete = " AND ".join(f"{identifier(name)} <> ''" for name in keys)
        file = quoted(str(out / f"{name}.parquet"))
        names = [identifier(column.name) for column in features]
        # NULL is the greatest to DuckDB, and a value that is there shall count before one that is not
        packed = ", ".join(f"h{i} := {n} IS NOT NULL, v{i} := {n}" for i, n in enumerate(names))
        unpacked = ", ".join(f"best.v{i} AS {n}" for i, n in enumerate(names))
        try:
            connection.execute(f"CREATE TEMP TABLE found AS SELECT {selected} FROM ({rows})")
            connection.execute(
                f"COPY (SELECT {key}, {unpacked} FROM (SELECT {key}, max(struct_pack({packed})) AS best "
                f"FROM found WHERE {EVENT_TIME} IS NOT NULL AND {complete} GROUP BY {key}) ORDER BY {key}) "
                f"TO {file} (FORMAT parquet, ROW_GROUP_SIZE {ROW_GROUP})"
            )
            read, usable = connection.execute(
                f"SELECT count(*), count(*) FILTER ({EVENT_TIME} IS NOT NULL AND {complete}) FROM found"
            ).fetchone()
            kept, first, last = connection.execute(
                f"SELECT count(*), min({EVENT_TIME}), max({EVENT_TIME}) FROM read_parquet({file})"
            ).fetchone()
        except duckdb.OutOfMemoryException as error:
            raise out_of_memory(error) from error
    if not kept:
        what = f"None of {read} rows has an entity ({', '.join(view.entity.values())}) and a time ({event_time})"
        raise DataError(what, where=f"features.from_store.{name}", remedy="correct the source, or these names")
    return ViewRows(rows=read, incomplete=read - usable, duplicates=usable - kept, first_event=first, last_event=last)


def _stored(column: NamedColumn) -> str:
    name = identifier(column.name)
    return f"CAST({name} AS DOUBLE) AS {name}" if column.type == "number" else name


def join_views(
    connection: Any,
    table: str,
    time: str,
    names: Mapping[str, str],
    views: Mapping[str, tuple[FeatureView, Path]],
) -> None:
    """Add the views' features to the rows of `table`: for each view the newest row that was known at a row's time.

    `time` is a column of the table, and `names` are those of its columns and of the features to come, by the model's
    names. A value that is not there becomes what the view says; a refused one is NULL, and its row incomplete.
    """
    joins, added = list[str](), list[str]()
    for number, (view, file) in enumerate(views.values()):
        on = [f"t.{names[name]} = v{number}.{identifier(name)}" for name in view.entity]
        joins.append(
            f"ASOF LEFT JOIN read_parquet({quoted(str(file))}) v{number} "
            f"ON {' AND '.join(on)} AND t.{time} >= v{number}.{EVENT_TIME}"
        )
        added += [f"{value_at(view, name, f'v{number}', f't.{time}')} AS {names[name]}" for name in view.features]
    connection.execute(f"CREATE TEMP TABLE joined AS SELECT t.*, {', '.join(added)} FROM {table} t {' '.join(joins)}")
    connection.execute(f"DROP TABLE {table}")
    connection.execute(f"ALTER TABLE joined RENAME TO {table}")


def value_at(view: FeatureView, feature: str, row: str, time: str) -> str:
    """The SQL of what a row of time `time` gets of a view's row `row`, which is not newer."""
    fresh = f"{time} <= {row}.{EVENT_TIME} + to_microseconds({int(view.max_age.total_seconds() * 1e6)})"
    value = f"CASE WHEN {fresh} THEN {row}.{identifier(feature)} END"
    if view.missing != "default":
        return value
    default = view.features[feature].default
    return f"coalesce({value}, {quoted(default) if isinstance(default, str) else str(default).lower()})"


@contextmanager
def newest_rows(view: FeatureView, file: Path, before: Path | None = None) -> Generator[Iterator[list[dict[str, Any]]]]:
    """Batches of the newest row of each entity in a view's file, without those that were the newest in `before`."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = {file.parent} | ({before.parent} if before else set())
        with session(folders, Path(scratch), memory_limit_mib(), threads_for(1)) as connection:
            rows = _newest(view, file) + (f" EXCEPT {_newest(view, before)}" if before else "")
            found = connection.execute(rows)
            names = [column[0] for column in found.description]
            batches = iter(lambda: found.fetchmany(BATCH), [])
            yield ([dict(zip(names, row, strict=True)) for row in batch] for batch in batches)


def sampled_rows(view: FeatureView, file: Path, at: datetime, count: int) -> list[dict[str, Any]]:
    """What rows of the time `at` get by the join, for some of the entities of a view's file: always the same ones."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        session({file.parent}, Path(scratch), memory_limit_mib(), threads_for(1)) as connection,
    ):
        keys, moment = ", ".join(map(identifier, view.entity)), f"TIMESTAMP {quoted(at.isoformat(sep=' '))}"
        names = {name: identifier(name) for name in (*view.entity, *view.features)}
        connection.execute(
            f"CREATE TEMP TABLE asked AS SELECT DISTINCT {keys}, {moment} AS at "
            f"FROM read_parquet({quoted(str(file))}) ORDER BY md5(concat_ws(chr(1), {keys})), {keys} LIMIT {count}"
        )
        join_views(connection, "asked", "at", names, {"view": (view, file)})
        found = connection.execute(f"SELECT {', '.join(names.values())} FROM asked")
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _newest(view: FeatureView, file: Path) -> str:
    key = ", ".join(map(identifier, view.entity))
    newest = ", ".join(f"arg_max_null({name}, {EVENT_TIME}) AS {name}" for name in map(identifier, view.features))
    rows = f"read_parquet({quoted(str(file))})"
    return f"SELECT {key}, max({EVENT_TIME}) AS {EVENT_TIME}, {newest} FROM {rows} GROUP BY {key}"
