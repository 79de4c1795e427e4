"""The data contract: what columns a model reads, what its target is, and how rows are prepared and split.

These are the types of the YAML's `columns`, `target` and `prepare`, and of everything that works by them.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mlops_assets.ml.values import Value, problem

ColumnType = Literal["number", "category", "boolean", "timestamp"]


class Column(Value):
    """What a source column must look like."""

    type: ColumnType = Field(description="What the values are: number, category, boolean or timestamp")
    nullable: bool = Field(default=False, description="Whether values may be missing")
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


class NamedColumn(Column):
    """A column of the contract together with its name."""

    name: str


class Target(Value):
    """What is predicted: a source column, or what a SQL expression makes of source columns."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    column: str = Field(description="The column to predict, or the name of what `from` computes")
    from_: str | None = Field(default=None, alias="from", description="SQL expression over source columns")


class Split(Value):
    """How rows are divided into train and test."""

    by: Literal["random", "time", "group"] = Field(
        default="random",
        description="random: by a row's content; time: the latest rows are the test set; group: groups stay together",
    )
    test: float = Field(default=0.2, gt=0, lt=1, description="Share of the test set")
    seed: int = Field(default=42, ge=0, description="Another seed gives another random division")
    column: str | None = Field(default=None, description="The group's column, for by: group")

    @model_validator(mode="after")
    def _column_fits(self) -> Self:
        if (self.by == "group") != (self.column is not None):
            message = "by: group needs column, the column whose rows stay together; the others take none"
            raise problem("column", message)
        return self


class Prepare(Value):
    """How raw rows become rows to learn from."""

    drop_nulls: bool = Field(default=True, description="Drop rows that lack a value which is not nullable")
    drop_duplicates: bool = Field(default=True, description="Keep one of several equal rows")
    split: Split = Field(default=Split(), description="How rows are divided into train and test")
