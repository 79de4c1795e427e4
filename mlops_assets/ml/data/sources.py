"""Source files as DuckDB relations with the contract's types, in a session that may touch its own folders alone."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mlops_assets.ml.data.contract import NamedColumn

MEMORY_LIMIT_MIB = 512  # of DuckDB; what sorting needs beyond grows with the width of a row, and the rest spills
REPLACE = "replace or remove the object"
NULLS = ("", "NA", "NaN", "nan", "null", "NULL", "None")
FITTING_TYPES = {
    "number": ("INT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN"),
    "boolean": ("BOOLEAN", "INT"),
    "category": ("VARCHAR", "ENUM", "INT", "BOOLEAN"),
    "timestamp": ("TIMESTAMP", "DATE"),
}


def session(folders: Iterable[Path], scratch: Path, memory_limit_mib: int, threads: int) -> Any:
    """A DuckDB connection of bounded memory that spills into `scratch` and reads and writes only below `folders`."""
    import duckdb

    connection = duckdb.connect()
    allowed = ", ".join(quoted(f"{folder.absolute()}/") for folder in (*folders, scratch))
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


def first_line(error: Exception) -> str:
    """The line of an error of DuckDB that says what is wrong."""
    return str(error).splitlines()[0]


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
    dialect = f"header = true, all_varchar = true, quote = '\"', escape = '\"', nullstr = [{nulls}]"
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
        raise DataError(f"{path.name} cannot be read as {kind} ({first_line(error)})", remedy=REPLACE) from error
    return {row[0]: row[1] for row in rows}


def contract_rows(paths: Sequence[Path], columns: Sequence[NamedColumn]) -> str:
    """The SQL of all rows of the files with the contract's columns and types."""
    selected = ", ".join(f"{cast(column)} AS {identifier(column.name)}" for column in columns)
    return f"SELECT {selected} FROM {relation(paths)}"
