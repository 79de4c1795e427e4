"""What a file of rows holds: its dialect, and of each column the type with which every value of it is read."""

from __future__ import annotations

import codecs
import glob
import gzip
import re
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlops_assets.ml.data.contract import PARQUET, RFC_4180, ColumnType, CsvDialect, NamedColumn
from mlops_assets.ml.data.machine import cores, memory_limit_mib
from mlops_assets.ml.data.sources import (
    EXACT_IN_FLOAT64,
    PANDAS_INDEX,
    TIMES,
    base_type,
    cause_of,
    columns_of,
    fits,
    identifier,
    is_given,
    quoted,
    relation,
    session,
    typed,
)
from mlops_assets.ml.errors import DataError, MlopsError
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    Encoding = Literal["utf-8", "utf-16", "latin-1"]
    Decimal = Literal[".", ","]
    Thousands = Literal[",", ".", "'", " "]

MANY_CATEGORIES = 1_000
DELIMITERS = re.compile(r"[,;|\t]")
# Of a number: decimal, and between thousands
MARKS: tuple[tuple[Decimal, Thousands], ...] = ((".", ","), (",", "."), (".", "'"), (",", "'"), (".", " "), (",", " "))


class ColumnFacts(Value):
    """A column as the contract can have it, and why nothing can be learnt from it, where that is so."""

    name: str
    type: ColumnType
    missing: int
    distinct: int
    whole: bool
    commonest: str
    commonest_rows: int
    rarest_rows: int
    infinite_rows: int
    no_feature: str


class FileFacts(Value):
    """The file as the contract can have it; `left_out` has the columns that it cannot have, and why."""

    rows: int
    csv: CsvDialect
    columns: tuple[ColumnFacts, ...]
    left_out: dict[str, str]


def inspect_file(file: Path) -> FileFacts:
    """Read the whole file and say what it holds.

    Raises:
        DataError: it cannot be read, or has no rows.
    """
    file = file.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        connection = session([file.parent], Path(scratch), memory_limit_mib(), cores())
        try:
            return _Inspection(connection, file).facts()
        finally:
            connection.close()


class _Inspection:
    """The rows as a table `raw`, and questions about its columns."""

    def __init__(self, connection: Any, file: Path) -> None:
        self.connection, self.file = connection, file
        self.is_parquet = file.suffix == ".parquet"
        self.csv = RFC_4180
        self.found = self._load()

    def facts(self) -> FileFacts:
        [rows] = self._one("count(*)")
        if not rows:
            raise DataError(f"{self.file.name} has no rows", remedy="give a file with some")
        left_out = dict(self._left_out())
        columns = [self._column(name, rows) for name in self.found if name not in left_out]
        return FileFacts(rows=rows, csv=self.csv, columns=tuple(columns), left_out=left_out)

    def _load(self) -> dict[str, str]:
        """Read the rows, in the dialect that DuckDB finds, and give the types of the columns."""
        import duckdb

        failed: Exception | None = None
        for encoding in self._encodings():
            if not self.is_parquet and self._first_line(encoding).casefold().startswith("sep="):
                what = f"the first line of {self.file.name} says to spreadsheets what the delimiter is"
                raise DataError(what, remedy="remove that line, for the header must be the first")
            try:
                formats = list[str]()
                if not self.is_parquet:
                    self.csv, formats = self._sniffed(encoding)
                found = columns_of(self.connection, [self.file], self.csv)
                if len(found) == 1 and (marks := DELIMITERS.findall(next(iter(found)))):
                    # No delimiter fits all lines; with the header's, DuckDB names the first line that it does not fit
                    self.csv = self.csv.model_copy(update={"delimiter": max(marks, key=marks.count)})
                    found = columns_of(self.connection, [self.file], self.csv)
                self.connection.execute(f"CREATE TABLE raw AS SELECT * FROM {relation([self.file], self.csv)}")
            except (MlopsError, duckdb.Error) as error:
                failed = failed or error
                continue
            if not self.is_parquet:
                self.csv = self._best(found, formats)
            return found
        assert failed is not None
        if isinstance(failed, MlopsError):
            raise failed
        what = f"{self.file.name} cannot be read ({cause_of(failed)})"
        raise DataError(what, remedy="correct the file") from failed

    def _first_line(self, encoding: Encoding) -> str:
        opened: Any = gzip.open if self.file.suffix == ".gz" else open
        with opened(self.file, "rt", encoding=encoding, errors="replace") as file:
            return file.readline(1_000).lstrip("\ufeff")

    def _encodings(self) -> tuple[Encoding, ...]:
        """Those that the file may have, the likeliest first: any bytes are text in latin-1."""
        if self.is_parquet:
            return ("utf-8",)
        try:
            with gzip.open(self.file) if self.file.suffix == ".gz" else self.file.open("rb") as file:
                start = file.read(2)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            what = f"{self.file.name} is no whole gzip file ({error})"
            raise DataError(what, remedy="compress it again, or give it the name that fits it") from error
        return ("utf-16",) if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ("utf-8", "latin-1")

    def _sniffed(self, encoding: Encoding) -> tuple[CsvDialect, list[str]]:
        """The dialect, and formats of dates that may be in the file."""
        sniffed = f"sniff_csv({quoted(glob.escape(str(self.file)))}, encoding = {quoted(encoding)})"
        columns = "Delimiter, Quote, Escape, DateFormat, TimestampFormat"
        delimiter, quote, escape, *formats = self.connection.execute(f"SELECT {columns} FROM {sniffed}").fetchone()
        given: dict[str, Any] = {"delimiter": delimiter if delimiter not in (",", "\0", "", None) else None}
        if len(quote or "") == 1 and quote not in ('"', "\0") and quote.isprintable():
            given["quote"] = quote
        if len(escape or "") == 1 and escape not in (quote, '"', "\0") and escape.isprintable():
            given["escape"] = escape
        return CsvDialect(encoding=encoding, **given), [form for form in formats if form]

    def _best(self, found: dict[str, str], formats: Iterable[str]) -> CsvDialect:
        """The dialect with the marks of numbers and the date format with which most columns are more than text."""
        candidates = [self.csv]
        if self.csv.delimiter:
            candidates.append(self.csv.model_copy(update={"decimal": ","}))
        candidates += [
            self.csv.model_copy(update={"decimal": decimal, "thousands": thousands})
            for decimal, thousands in MARKS
            if self._has_thousands(found, decimal, thousands)
        ]
        candidates += [csv.model_copy(update={"date_format": form}) for form in formats for csv in candidates]

        def more_than_text(csv: CsvDialect) -> int:
            return sum(self._type(name, kind, csv) != "category" for name, kind in found.items())

        return max(candidates, key=more_than_text)  # the first of equal ones

    def _has_thousands(self, found: dict[str, str], decimal: Decimal, thousands: Thousands) -> bool:
        """Whether a value has these marks and can mean nothing else: 1,234 alone could also be a little over 1."""
        # Where the comma separates fields, few write it into numbers as their decimal mark
        can_be_decimal = thousands != "'" and not (thousands == "," and not self.csv.delimiter)
        pattern = grouped(decimal, thousands, sure=can_be_decimal)
        tests = [
            f"regexp_matches({identifier(name)}, {quoted(pattern)})"
            for name, kind in found.items()
            if kind == "VARCHAR"
        ]
        return bool(tests) and bool(self._one(f"count(*) FILTER ({' OR '.join(tests)})")[0])

    def _left_out(self) -> Iterable[tuple[str, str]]:
        for name, kind in self.found.items():
            if not fits(kind, "timestamp" if base_type(kind) in TIMES else "category"):
                yield name, f"it is of type {kind}"
            elif name == PANDAS_INDEX:
                yield name, "it is the index that pandas writes"
            elif not name or not name.isprintable() or "{{" in name or "{%" in name:
                yield name, "its name cannot stand in a YAML"

    def _type(self, name: str, kind: str, csv: CsvDialect) -> ColumnType:
        """The narrowest type with which each value is read."""
        base = base_type(kind)
        if base in TIMES:
            return "timestamp"
        if base == "BOOLEAN":
            return "boolean"
        if base not in ("VARCHAR", "BLOB", "ENUM", "UUID"):
            return "number"
        kinds: tuple[ColumnType, ...] = ("timestamp",) if self.is_parquet else ("number", "boolean", "timestamp")
        for wanted in kinds if base == "VARCHAR" else ():
            column = NamedColumn(name=name, type=wanted)
            given = is_given(column, kind, csv)
            value = typed(column, kind, csv)
            wrong = f"({value}) IS NULL"
            if wanted == "number":
                # 01234 is a name made of digits, and so is what float64 does not tell from its neighbour
                digits = f"regexp_matches({identifier(name)}, '^\\s*[+-]?[0-9]+\\s*$')"
                wrong += f" OR regexp_matches({identifier(name)}, '^\\s*0[0-9]+\\s*$')"
                wrong += f" OR ({digits} AND abs({value}) > {EXACT_IN_FLOAT64})"
                if csv.thousands:
                    plain = rf"^\s*[+-]?[0-9]*([{csv.decimal}][0-9]*)?([eE][+-]?[0-9]+)?\s*$"
                    either = f"{plain}|{grouped(csv.decimal, csv.thousands)}"
                    wrong += f" OR NOT regexp_matches({identifier(name)}, {quoted(either)})"
            given_rows, wrong_rows = self._one(f"count(*) FILTER ({given}), count(*) FILTER ({given} AND ({wrong}))")
            if given_rows and not wrong_rows:
                return wanted
        return "category"

    def _column(self, name: str, rows: int) -> ColumnFacts:
        kind, dialect = self.found[name], PARQUET if self.is_parquet else self.csv
        wanted = self._type(name, kind, dialect)
        value = typed(NamedColumn(name=name, type=wanted), kind, dialect)
        is_number = wanted == "number"
        whole = "coalesce(bool_and(v = round(v)), false)" if is_number else "false"
        numbering = "coalesce(max(v) - min(v) + 1 = count(*), false)" if is_number else "false"
        of_values = f"(SELECT {value} AS v FROM raw)"
        infinite = "count(*) FILTER (isinf(CAST(v AS DOUBLE)))" if is_number else "0"
        there, distinct, is_whole, numbers, endless = self._one(
            f"count(v), count(DISTINCT v), {whole}, {numbering}, {infinite}", of_values
        )
        [given] = self._one(f"count(*) FILTER ({is_given(NamedColumn(name=name, type=wanted), kind, dialect)})")
        [(commonest, most)] = self.connection.execute(
            f"SELECT v, count(*) AS n FROM {of_values} GROUP BY v ORDER BY (v IS NULL), n DESC, v LIMIT 1"
        ).fetchall()
        [rarest] = self._one("min(n)", f"(SELECT count(*) AS n FROM {of_values} WHERE v IS NOT NULL GROUP BY v)")
        numbers_rows = bool(is_whole and numbers and distinct == rows)
        no_feature = "its values are no text" if given and not there else ""
        if endless:
            no_feature = f"it is infinite in {endless:,} rows"
        return ColumnFacts(
            name=name,
            type=wanted,
            missing=rows - there,
            distinct=distinct,
            whole=is_whole,
            commonest=str(commonest),
            commonest_rows=most if there else 0,
            rarest_rows=rarest or 0,
            infinite_rows=endless,
            no_feature=no_feature or _no_feature(wanted, there, distinct, numbers_rows=numbers_rows),
        )

    def _one(self, selected: str, table: str = "raw") -> Any:
        return self.connection.execute(f"SELECT {selected} FROM {table}").fetchone()


def grouped(decimal: str, thousands: str, *, sure: bool = False) -> str:
    """The pattern of a number whose thousands are marked; `sure`: twice, or before a decimal mark."""
    group = f"[{thousands}][0-9]{{3}}"
    fraction = f"[{decimal}][0-9]+"
    rest = f"({group}({group})+({fraction})?|{group}{fraction})" if sure else f"({group})+({fraction})?"
    return rf"^\s*[+-]?[1-9][0-9]{{0,2}}{rest}\s*$"


def _no_feature(kind: ColumnType, there: int, distinct: int, *, numbers_rows: bool) -> str:
    """Why nothing can be learnt from a column."""
    if not there:
        return "it has no value"
    if distinct == 1:
        return "it has one value only"
    if kind == "timestamp":
        return "it is a time"
    if kind == "category" and distinct == there:
        return "each row has another value"
    if kind == "category" and distinct > min(MANY_CATEGORIES, there // 2):
        return f"it has {distinct:,} different texts"
    return "it numbers the rows" if numbers_rows else ""
