"""The data contract: what columns a model reads, what its target is, and how rows are prepared and split.

These are the types of the YAML's `columns`, `target` and `prepare`, and of everything that works by them.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from mlops_assets.ml.data.expression import columns_of_expression
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value, problem

ColumnType = Literal["number", "category", "boolean", "timestamp"]
NULLS = ("", "NA", "NaN", "nan", "null", "NULL", "None")


class CsvDialect(Value):
    """How CSV files are written, where that differs from RFC 4180."""

    delimiter: str | None = Field(
        default=None, min_length=1, max_length=4, description="What separates fields; found by itself when not given"
    )
    quote: str = Field(default='"', max_length=1, description="What encloses fields; an empty text for nothing")
    escape: str | None = Field(
        default=None,
        max_length=1,
        description="What precedes a quote inside of quotes; the quote itself when not given",
    )
    decimal: Literal[".", ","] = Field(default=".", description="The decimal mark")
    thousands: Literal["", ",", ".", "'", " "] = Field(default="", description="The mark between thousands")
    encoding: Literal["utf-8", "utf-16", "latin-1"] = Field(default="utf-8", description="The encoding of the text")
    nulls: tuple[str, ...] = Field(
        default=NULLS, description="Texts that stand for a missing value, apart from those that a column's values allow"
    )
    date_format: str | None = Field(
        default=None, min_length=2, description="The format of timestamps, such as %d/%m/%Y; ISO 8601 when not given"
    )
    trim: bool = Field(default=True, description="Drop spaces at both ends of a category")
    max_line_bytes: int = Field(default=2_000_000, ge=1_000, description="The longest line, in bytes")

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.thousands == self.decimal:
            raise problem("thousands", f"{self.thousands!r} is the decimal mark; choose another one")
        return self


class ColumnRules(Value):
    """What the values of a column must look like."""

    type: ColumnType = Field(description="What the values are: number, category, boolean or timestamp")
    min: float | None = Field(default=None, description="Smallest allowed number")
    max: float | None = Field(default=None, description="Largest allowed number")
    values: tuple[str, ...] | None = Field(default=None, min_length=1, description="Allowed values of a category")

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.type != "number" and (self.min is not None or self.max is not None):
            field = "min" if self.min is not None else "max"
            raise problem(field, f"a {self.type} has no range; only numbers have")
        if self.values and self.type != "category":
            raise problem("values", f"a {self.type} has no list of values; only categories have")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise problem("min", f"min {self.min:g} is above max {self.max:g}; swap them")
        return self


class Column(ColumnRules):
    """What a source column must look like."""

    nullable: bool = Field(default=False, description="Whether values may be missing")


RFC_4180 = CsvDialect()
PARQUET = CsvDialect(nulls=("",), trim=False)  # of the texts in Parquet, the empty one alone is a missing value


class NamedColumn(Column):
    """A column of the contract together with its name."""

    name: str


class Target(Value):
    """What is predicted: a source column, or what a SQL expression makes of source columns."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    column: str = Field(description="The column to predict, or the name of what `from` computes")
    from_: str | None = Field(default=None, alias="from", description="SQL expression over source columns")
    positive: bool | int | float | str | None = Field(
        default=None, description="The class that precision, recall and the like are about; the last one when not given"
    )

    @field_validator("positive", mode="before")
    @classmethod
    def _is_one_class(cls, value: object) -> object:
        if not isinstance(value, bool | int | float | str | None):
            raise problem("", f"{value!r} is no class; give a number, a text or a boolean")
        return value

    @model_validator(mode="after")
    def _is_an_expression(self) -> Self:
        if self.from_ is not None:
            try:
                columns_of_expression(self.from_)
            except DataError as error:
                raise problem("from", str(error)) from None
        return self

    @property
    def definition(self) -> str:
        """What is predicted, in one line: the column, and what it is computed from."""
        return self.column if self.from_ is None else f"{self.column} = {self.from_}"


class Split(Value):
    """How rows are divided into train and test."""

    by: Literal["random", "time", "group"] = Field(
        default="random",
        description="random: by a row's content; time: the latest rows are the test set; group: groups stay together",
    )
    test: float = Field(default=0.2, gt=0, lt=1, description="Share of the test set")
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the train rows that steers early stopping, held out the same way"
    )
    seed: int = Field(default=42, ge=0, description="Another seed gives another random division")
    column: str | None = Field(
        default=None,
        description="The group's column, for by: group; with a key of the rows, a row keeps its side whatever changes",
    )

    @model_validator(mode="after")
    def _column_fits(self) -> Self:
        if (self.by == "group") != (self.column is not None):
            message = "by: group needs column, the column whose rows stay together; the others take none"
            raise problem("column", message)
        return self


class Prepare(Value):
    """How raw rows become rows to learn from."""

    drop_nulls: bool = Field(default=True, description="Drop rows that lack a value which is not nullable")
    drop_duplicates: bool = Field(default=False, description="Keep one of several rows that are equal in all columns")
    max_dropped: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Largest share of the rows that may be dropped, for nulls and as duplicates",
    )
    split: Split = Field(default=Split(), description="How rows are divided into train and test")
