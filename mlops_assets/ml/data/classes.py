"""The classes of a target: what may be one, how many there may be, and how they are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.sources import FLOATS, INTEGERS
from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlops_assets.ml.data.preparation import PreparationPlan
    from mlops_assets.ml.values import Classes

MAX_CLASSES = 100
WHOLE = re.compile(r"-?\d+\.0")


def classes_of(values: list[Any], kind: str, plan: PreparationPlan) -> Classes:
    """The classes of a target whose different values are `values`, in their order, of the DuckDB type `kind`.

    Raises:
        DataError: they do not fit the task, or `target.positive` is none of them.
    """
    if kind in {*FLOATS, "DECIMAL"}:
        whole = all(float(value).is_integer() for value in values)
        values = [int(value) if whole else float(value) for value in values]
    name, shown = plan.target.column, ", ".join(str(value) for value in values[:5])
    check_spelling(name, values)
    if len(values) < 2:
        raise DataError(
            f"{name} has only the class {shown or 'NULL'}", remedy="a classifier needs rows of at least two classes"
        )
    if len(values) > MAX_CLASSES:
        numbers = kind in {*INTEGERS, *FLOATS, "DECIMAL"}
        remedy = "did you mean task: regression?" if numbers else "put rare ones together, such as by target.from"
        raise DataError(f"{name} has more than {MAX_CLASSES} classes ({shown}, ...)", remedy=remedy)
    if plan.task == "binary_classification" and len(values) != 2:
        raise DataError(f"{name} has {len(values)} classes ({shown})", remedy="use task: multiclass_classification")
    if kind in INTEGERS and not all(-(2**63) <= value < 2**63 for value in values):
        raise DataError(f"{name} has classes beyond 64 bits ({shown})", remedy="make texts of them")
    positive = plan.target.positive
    if positive is not None and positive not in values:
        raise DataError(f"{positive!r} is none of its classes: {shown}", where="target.positive", remedy="correct it")
    return tuple(values)


def check_spelling(column: str, values: Iterable[Any]) -> None:
    """Texts such as 1 and 1.0 beside each other are one value that files write in two ways, as pandas writes whole
    numbers where others are missing. A text with a NUL character is another one to ONNX's runtime, which ends it there.

    Raises:
        DataError: there are such texts.
    """
    texts = {value for value in values if isinstance(value, str)}
    for text in sorted(texts):
        if "\0" in text:
            what = f"{column} has {text[:40]!r}, and where models are served a text ends at its NUL character"
            raise DataError(what, remedy="remove that character from the data, or leave the column out")
        other = (
            text.removesuffix(".0") if WHOLE.fullmatch(text) else text.lower() if text in ("True", "False") else text
        )
        if other != text and other in texts:
            what = f"{column} has both {other!r} and {text!r}, one value that is written in two ways"
            raise DataError(what, remedy="write it alike everywhere, or make it a number or boolean under columns")
