"""The data contract: what columns a model reads, what its target is and how rows are split."""

from typing import Literal

from pydantic import Field

from mlops_assets.ml.values import Value

ColumnType = Literal["number", "category", "boolean", "timestamp"]
SplitBy = Literal["random", "time", "group"]


class Column(Value):
    """One source column: its type and what values are allowed."""

    name: str
    type: ColumnType
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    values: tuple[str, ...] | None = None


class Target(Value):
    """The column to predict; `expression` is a SQL expression over source columns, None when the column exists."""

    column: str
    expression: str | None = None


class Split(Value):
    """How rows are divided into train and test; `column` is the event time (`time`) or the group (`group`)."""

    by: SplitBy = "random"
    test: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 42
    column: str | None = None
