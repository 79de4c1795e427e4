"""What decides the prepared rows, and what is known of them afterwards."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it

from mlops_assets.ml.data.contract import RFC_4180, CsvDialect, NamedColumn, Prepare, Target
from mlops_assets.ml.values import Classes, Document, Task, Value


class PreparationPlan(Value):
    """Everything that decides the prepared rows."""

    columns: tuple[NamedColumn, ...]
    target: Target
    task: Task
    prepare: Prepare
    event_time: str | None
    csv: CsvDialect = RFC_4180


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
    """What was read, what was dropped and what came out.

    Rows that are read are outside the window, or dropped for a null or as a duplicate, or in one of the two parts. The
    last `validation_rows` of the train part were held out from it as the test part was from all. `repeated_rows` of the
    test part are equal to one of the train part. `test_from` is when the test part begins, in a split by time.
    """

    FILE = "report.json"

    rows_read: int
    rows_outside_window: int
    rows_with_nulls: int
    duplicates: int
    train_rows: int
    validation_rows: int
    test_rows: int
    repeated_rows: int
    classes: Classes | None
    label_rates: dict[str, dict[str, float]]
    columns: dict[str, ColumnStatistics]
    violations: tuple[Violation, ...]
    test_from: datetime | None
