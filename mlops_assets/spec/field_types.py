"""Kinds of values in a model's YAML that have a notation of their own: durations, import paths, cron expressions."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from mlops_assets.ml.networks import locate

_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def problem(field: str, message: str) -> PydanticCustomError:
    """An error about `field` (a dotted path below the object that is being checked)."""
    return PydanticCustomError("spec", "{message}", {"message": message, "field": field})


def _duration(value: object) -> object:
    """Turn `60s`, `10m`, `2h` or `7d` into a timedelta."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+)([smhd])", value) if isinstance(value, str) else None
    if not match or int(match[1]) == 0:
        raise PydanticCustomError(
            "duration", "a duration is a number above 0 and a unit, s, m, h or d, such as 60s or 7d"
        )
    return timedelta(**{_DURATION_UNITS[match[2]]: int(match[1])})


def _import_path(value: object) -> object:
    """Check that the module of a dotted path exists, without importing it."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        raise PydanticCustomError("import_path", "an import path is package.module.ClassName")
    module = value.rpartition(".")[0]
    if locate(module) is None:
        raise PydanticCustomError(
            "import_path",
            "there is no module {module}; install its package or correct the path",
            {"module": module},
        )
    return value


def _cron(value: object) -> object:
    import dagster as dg

    try:
        dg.ScheduleDefinition(name="check", job_name="check", cron_schedule=str(value))
    except dg.DagsterInvalidDefinitionError:
        raise PydanticCustomError(
            "cron", "a schedule is a cron expression of five fields, such as '0 3 * * 0' (Sundays at 3)"
        ) from None
    return value


Duration = Annotated[
    timedelta, BeforeValidator(_duration, json_schema_input_type=Annotated[str, Field(pattern=r"^[1-9]\d*[smhd]$")])
]
ImportPath = Annotated[str, BeforeValidator(_import_path, json_schema_input_type=str)]
Quantity = Annotated[str, Field(pattern=r"^[1-9]\d*(Mi|Gi|Ti)$", examples=["512Mi", "16Gi"])]
Cron = Annotated[str, BeforeValidator(_cron, json_schema_input_type=str)]
