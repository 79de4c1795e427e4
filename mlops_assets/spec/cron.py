"""Cron expressions in a model's YAML, as Dagster takes them."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def _cron(value: object) -> object:
    import dagster as dg

    try:
        dg.ScheduleDefinition(name="check", job_name="check", cron_schedule=str(value))
    except dg.DagsterInvalidDefinitionError:
        message = "a schedule is a cron expression of five fields, such as '0 3 * * 0' (Sundays at 3)"
        raise PydanticCustomError("cron", message) from None
    return value


Cron = Annotated[str, BeforeValidator(_cron, json_schema_input_type=str)]
