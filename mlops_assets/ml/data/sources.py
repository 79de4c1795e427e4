"""Source files as DuckDB relations with the contract's types, in a session that may touch its own folders alone."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mlops_assets.ml.data.contract import ColumnType, NamedColumn

REPLACE = "replace or remove the object"
NULLS = ("", "NA", "NaN", "nan", "null", "NULL", "None")
INTEGERS = {f"{sign}{size}" for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")}
FITTING_TYPES: dict[ColumnType, set[str]] = {
    "number": {*INTEGERS, "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN"},
    "boolean": {*INTEGERS, "BOOLEAN"},
    "category": {*INTEGERS, "VARCHAR", "ENUM", "BOOLEAN"},
    "timestamp": {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "DATE"},
}


def session(folders: Iterable[Path], scratch: Path, memory_limit_mib: int, threads: int) -> Any:
    """A DuckDB connection of bounded memory that spills into `scratch` and reads and writes only below `folders`."""
    import duckdb

    connection = duckdb.connect()
    paths = [str(folder.absolute()) for folder in (*folders, scratch)]
    # A path is a pattern to DuckDB, and the pattern must be allowed as well as the file
    allowed = ", ".join(quoted(f"{path}/") for path in {*paths, *map(glob.escape, paths)})
    for setting in (
        f"memory_limit = '{memory_limit_mib}MiB'",
        f"threads = {threads}",
        f"temp_directory = {quoted(str(scratch))}",
        "TimeZone = 'UTC'",
        "preserve_insertion_order = false",
        f"allowed_directories = [{allowed}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def fits(sql_type: str, column_type: ColumnType) -> bool:
    """Whether a Parquet column of this SQL type, such as DECIMAL(9,2) or BIGINT[], is what the contract says."""
    name = sql_type.partition("(")[0]
    return name in FITTING_TYPES[column_type] and not sql_type.endswith("]")


def cause_of(error: Exception) -> str:
    """What an error of DuckDB says is wrong: the lines before its advice, without the line of data it quotes."""
    lines = str(error).partition("\n\n")[0].partition("Possible")[0].splitlines()
    quoted_data = next((index for index, line in enumerate(lines) if line.startswith("Original Line")), None)
    if quoted_data is not None:
        del lines[quoted_data : quoted_data + 2 if lines[quoted_data].strip() == "Original Line:" else quoted_data + 1]
    return " ".join(line.strip() for line in lines)[:300]


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def relation(paths: Sequence[Path]) -> str:
    """The SQL that reads source files of one format as one table; in CSV all is text until the contract casts it.

    One read of a list: DuckDB holds a buffer of 30 MiB for each `read_csv` of its own. Quotes are given, because they
    are otherwise guessed from the first lines, and names of folders such as month=7 are no columns.
    """
    files = ", ".join(quoted(glob.escape(str(path))) for path in paths)  # a path is a pattern to DuckDB
    options = "union_by_name = true, hive_partitioning = false"
    if paths[0].name.endswith(".parquet"):
        return f"read_parquet([{files}], {options})"
    nulls = ", ".join(quoted(text) for text in NULLS)
    # Lines above the header are not looked for: where rows differ in width, data is taken for them and lost
    dialect = f"header = true, skip = 0, all_varchar = true, quote = '\"', escape = '\"', nullstr = [{nulls}]"
    return f"read_csv([{files}], {dialect}, {options})"


def cast(column: NamedColumn) -> str:
    """The SQL that reads a column as the contract says; NULL where a value has another type, or is NaN."""
    name = identifier(column.name)
    match column.type:
        case "number":
            # float32 is what the model is trained on and served with
            return f"CASE WHEN isnan(TRY_CAST({name} AS FLOAT)) THEN NULL ELSE TRY_CAST({name} AS FLOAT) END"
        case "boolean":
            return f"CAST(TRY_CAST({name} AS BOOLEAN) AS FLOAT)"
        case "category":
            return f"CAST({name} AS VARCHAR)"
        case "timestamp":
            return f"CAST(TRY_CAST({name} AS TIMESTAMPTZ) AS TIMESTAMP)"


def columns_of(connection: Any, path: Path) -> dict[str, str]:
    """Name and SQL type of each column of a file.

    Raises:
        DataError: the file is no readable Parquet or CSV file.
    """
    import duckdb

    try:
        rows = connection.execute(f"DESCRIBE SELECT * FROM {relation([path])}").fetchall()
    except duckdb.Error as error:
        kind = "Parquet" if path.suffix == ".parquet" else "CSV"
        raise DataError(f"{path.name} cannot be read as {kind} ({cause_of(error)})", remedy=REPLACE) from error
    return {row[0]: row[1] for row in rows}


def contract_rows(paths: Sequence[Path], columns: Sequence[NamedColumn]) -> str:
    """The SQL of all rows of the files with the contract's columns and types."""
    selected = ", ".join(f"{cast(column)} AS {identifier(column.name)}" for column in columns)
    return f"SELECT {selected} FROM {relation(paths)}"
