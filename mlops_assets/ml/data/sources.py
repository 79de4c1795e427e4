"""Source files as DuckDB relations with the contract's types, in a session that may touch its own folders alone."""

from __future__ import annotations

import glob
import gzip
import itertools
from csv import QUOTE_MINIMAL, QUOTE_NONE, reader
from csv import Error as UnreadableCsv
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.contract import PARQUET
from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlops_assets.ml.data.contract import ColumnType, CsvDialect, NamedColumn

SNIFFED_LINES = 2_048
REPLACE = "replace or remove the object"
INTEGERS = {f"{sign}{size}" for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")}
FLOATS = {"FLOAT", "DOUBLE"}
NUMBERS = {*INTEGERS, *FLOATS, "DECIMAL"}
TIMES = {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "DATE"}
# Text of Parquet is read as text of CSV is: the values must fit
FITTING_TYPES: dict[ColumnType, set[str]] = {
    "number": {*NUMBERS, "BOOLEAN", "VARCHAR"},
    "boolean": {*NUMBERS, "BOOLEAN", "VARCHAR"},
    "category": {*NUMBERS, "BOOLEAN", "VARCHAR", "ENUM", "UUID", "BLOB"},
    "timestamp": {*TIMES, "VARCHAR"},
}
PANDAS_INDEX = "__index_level_0__"
FILE_NAME = "\x01file"  # no column can be called so
LARGEST_FLOAT32 = "3.4028235e38"
EXACT_IN_FLOAT64 = 2**53


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
        "enable_progress_bar = false",
        f"allowed_directories = [{allowed}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def base_type(sql_type: str) -> str:
    """A SQL type without its parameters; the empty text for one that is nested.

    >>> base_type("DECIMAL(9,2)"), base_type("BIGINT[]"), base_type("TIMESTAMP WITH TIME ZONE")
    ('DECIMAL', '', 'TIMESTAMP WITH TIME ZONE')
    """
    return "" if sql_type.endswith("]") else sql_type.partition("(")[0]


def fits(sql_type: str, column_type: ColumnType) -> bool:
    """Whether a source column of this SQL type, such as DECIMAL(9,2) or BIGINT[], can be what the contract says."""
    return base_type(sql_type) in FITTING_TYPES[column_type]


def always_fits(sql_type: str, column_type: ColumnType) -> bool:
    """Whether every value of this SQL type is what the contract says, so that none needs to be looked at."""
    kind = base_type(sql_type)
    whole = {*INTEGERS, "VARCHAR", "BOOLEAN", "ENUM", "UUID"}
    return (
        kind
        in {
            "number": NUMBERS | {"BOOLEAN"},
            "boolean": {"BOOLEAN"},
            "category": whole,
            "timestamp": TIMES,
        }[column_type]
    )


def out_of_memory(error: Exception) -> DataError:
    """What to raise when DuckDB has too little memory."""
    what = f"The rows do not fit into the memory of this stage ({cause_of(error)})"
    return DataError(what, remedy="give it more under compute.memory")


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


def relation(paths: Sequence[Path], csv: CsvDialect, *, filename: bool = False) -> str:
    """The SQL that reads source files of one format as one table; in CSV all is text until the contract casts it.

    One read of a list: DuckDB holds a buffer of 30 MiB for each `read_csv` of its own. Quotes are given, because they
    are otherwise guessed from the first lines, and names of folders such as month=7 are no columns.
    """
    files = ", ".join(quoted(glob.escape(str(path))) for path in paths)  # a path is a pattern to DuckDB
    options = "union_by_name = true, hive_partitioning = false"
    if filename:
        options += f", filename = {quoted(FILE_NAME)}"
    if paths[0].name.endswith(".parquet"):
        return f"read_parquet([{files}], {options})"
    # Lines above the header are not looked for: where rows differ in width, data is taken for them and lost
    # Texts for missing values are left to `typed`, which knows the column: here they would count for the header as well
    dialect = f"header = true, skip = 0, all_varchar = true, nullstr = '', sample_size = {SNIFFED_LINES}, "
    dialect += f"quote = {quoted(csv.quote)}, escape = {quoted(csv.escape if csv.escape is not None else csv.quote)}, "
    dialect += f"delim = {quoted(csv.delimiter)}, " if csv.delimiter else ""
    dialect += f"encoding = {quoted(csv.encoding)}, " if csv.encoding != "utf-8" else ""
    dialect += f"max_line_size = {csv.max_line_bytes}, "
    return f"read_csv([{files}], {dialect}{options})"


def dialect_of(paths: Sequence[Path], csv: CsvDialect) -> CsvDialect:
    """How texts in the files are to be read: as CSV says, or as they are in Parquet."""
    return PARQUET if paths[0].suffix == ".parquet" else csv


def columns_of(connection: Any, paths: Sequence[Path], csv: CsvDialect) -> dict[str, str]:
    """Name and SQL type of each column of files that are read as one table, in the order of the first file.

    Raises:
        DataError: the file is no readable Parquet or CSV file.
    """
    import duckdb

    try:
        rows = connection.execute(f"DESCRIBE SELECT * FROM {relation(paths, csv)}").fetchall()
    except duckdb.Error as error:
        name = paths[0].name if len(paths) == 1 else f"One of {len(paths)} files"
        kind = "Parquet" if paths[0].suffix == ".parquet" else "CSV"
        cause = cause_of(error)
        if "automatically detect" in cause:
            cause = next(filter(None, (_uneven_line(path, csv) for path in paths)), cause)
        raise DataError(f"{name} cannot be read as {kind} ({cause})", remedy=_remedy(error)) from error
    return {row[0]: row[1] for row in rows}


def _uneven_line(path: Path, dialect: CsvDialect) -> str:
    """The first line that has other fields than the header, among those that DuckDB looks at before it reads."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    form: dict[str, Any] = {"delimiter": dialect.delimiter or ",", "quotechar": dialect.quote or None}
    form["quoting"] = QUOTE_MINIMAL if dialect.quote else QUOTE_NONE
    with opened(path, "rt", encoding=dialect.encoding, errors="replace", newline="") as file:
        rows = reader(itertools.islice(file, SNIFFED_LINES), **form)
        try:
            header = next(rows, [])
            uneven = next(((rows.line_num, row) for row in rows if row and len(row) != len(header)), None)
        except UnreadableCsv:
            return ""
    return f"line {uneven[0]} has {len(uneven[1])} fields, and the header {len(header)}" if uneven else ""


def _remedy(error: Exception) -> str:
    text = str(error)
    if "not utf-8 encoded" in text:
        return "give its encoding as source.csv.encoding, or " + REPLACE
    if "Maximum line size" in text:
        return "give source.csv.max_line_bytes, or " + REPLACE
    return REPLACE


def text_of(name: str, sql_type: str, column: NamedColumn, csv: CsvDialect, missing: Sequence[str]) -> str:
    """The SQL of a text without those that stand for a missing value, trimmed where the dialect says so."""
    text = f"TRY(decode({name}))" if sql_type == "BLOB" else name
    if csv.trim and column.type == "category":
        text = f"trim({text})"
    return f"CASE WHEN {text} IN ({', '.join(map(quoted, missing))}) THEN NULL ELSE {text} END" if missing else text


def missing_texts(column: NamedColumn, csv: CsvDialect) -> list[str]:
    """The texts that stand for a missing value of a column."""
    return [text for text in csv.nulls if text not in (column.values or ())]


def _is_number(text: str, csv: CsvDialect) -> bool:
    try:
        float(
            text.replace(csv.thousands, "").replace(csv.decimal, ".")
            if csv.thousands
            else text.replace(csv.decimal, ".")
        )
    except ValueError:
        return False
    return True


def typed(  # noqa: PLR0911 - one for each pair of types
    column: NamedColumn, sql_type: str | None, csv: CsvDialect
) -> str:
    """The SQL that reads a source column as the contract says, in its own precision.

    Numbers stay integers, decimals, float32 or float64 as they are (text becomes float64), without NaN, which is a
    missing value, and without -0.0. Categories become text, booleans BOOLEAN, timestamps naive UTC. NULL where a value
    has another type; `sql_type` None is a column that is nowhere.
    """
    if sql_type is None:
        kinds = {"number": "DOUBLE", "category": "VARCHAR", "boolean": "BOOLEAN", "timestamp": "TIMESTAMP"}
        return f"CAST(NULL AS {kinds[column.type]})"
    name, kind = identifier(column.name), base_type(sql_type)
    missing = missing_texts(column, csv)
    if column.type == "number":  # other texts are no numbers anyway
        missing = [text for text in missing if _is_number(text, csv)]
    text = text_of(name, kind, column, csv, missing) if kind in ("VARCHAR", "BLOB") else name
    match column.type:
        case "number":
            return _number(name, text, kind, csv)
        case "boolean":
            if kind == "BOOLEAN":
                return name
            if kind == "VARCHAR":
                text = f"CASE {text} WHEN '1.0' THEN '1' WHEN '0.0' THEN '0' ELSE trim({text}) END"
                return f"TRY_CAST({text} AS BOOLEAN)"
            return f"CASE {name} WHEN 1 THEN true WHEN 0 THEN false END"
        case "category":
            if kind in FLOATS or kind == "DECIMAL":  # integers with gaps are floats to pandas
                whole = f"TRY_CAST({name} AS HUGEINT)"
                return f"CASE WHEN {whole} = {name} THEN CAST({whole} AS VARCHAR) END"
            return text if kind in ("VARCHAR", "BLOB") else f"CAST({name} AS VARCHAR)"
        case "timestamp":
            if kind == "VARCHAR" and csv.date_format:
                return f"try_strptime({text}, {quoted(csv.date_format)})"
            return f"CAST(TRY_CAST({text} AS TIMESTAMPTZ) AS TIMESTAMP)"


def _number(name: str, text: str, kind: str, csv: CsvDialect) -> str:
    if kind == "BOOLEAN":
        return f"CAST({name} AS INTEGER)"
    if kind == "VARCHAR":
        if csv.thousands:
            text = f"replace({text}, {quoted(csv.thousands)}, '')"
        if csv.decimal != ".":
            text = f"replace({text}, {quoted(csv.decimal)}, '.')"
        name, kind = f"TRY_CAST({text} AS DOUBLE)", "DOUBLE"
    if kind not in FLOATS:
        return name
    # NaN equals itself in SQL, and -0.0 plus 0.0 is 0.0
    return f"nullif({name}, CAST('nan' AS {kind})) + CAST(0 AS {kind})"


def is_no_number(column: NamedColumn, sql_type: str | None) -> str:
    """The SQL of whether a value is NaN, which is a missing value and not one of another type."""
    kind = base_type(sql_type or "")
    if kind in FLOATS:
        return f"isnan({identifier(column.name)})"
    if kind == "VARCHAR" and column.type == "number":
        return f"coalesce(isnan(TRY_CAST({identifier(column.name)} AS DOUBLE)), false)"
    return "false"


def is_given(column: NamedColumn, sql_type: str | None, csv: CsvDialect) -> str:
    """The SQL of whether a value is there, be it of the contract's type or not."""
    if sql_type is None:
        return "false"
    name, kind = identifier(column.name), base_type(sql_type)
    text = text_of(name, kind, column, csv, missing_texts(column, csv)) if kind == "VARCHAR" else name
    return f"({text} IS NOT NULL AND NOT {is_no_number(column, sql_type)})"


def row_digest(names: Iterable[str], seed: int) -> str:
    """The SQL of the MD5 of a seed and a row as it lies in the source: its columns that have a value, by name.

    It depends neither on the contract nor on the order of the columns, and stays when the files get another column.
    The index that pandas writes counts rows and says nothing about them.
    """
    parts = list[str]()
    for name in sorted(names):
        if name != PANDAS_INDEX:
            parts.append(f"CASE WHEN {identifier(name)} IS NOT NULL THEN {quoted(f'{chr(1)}{name}{chr(2)}')} END")
            parts.append(f"CAST({identifier(name)} AS VARCHAR)")
    return f"md5_number(concat('{seed}', {', '.join(parts)}))"


def contract_rows(
    paths: Sequence[Path],
    columns: Sequence[NamedColumn],
    found: Mapping[str, str],
    csv: CsvDialect,
    also: Mapping[str, str] | None = None,
) -> str:
    """The SQL of all rows of the files with the contract's columns and types, and with other expressions by name.

    `found` is what `columns_of` says of the files.
    """
    dialect = dialect_of(paths, csv)
    selected = {column.name: typed(column, found.get(column.name), dialect) for column in columns}
    expressions = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in (selected | dict(also or {})).items())
    return f"SELECT {expressions} FROM {relation(paths, csv)}"
