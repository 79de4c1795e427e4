"""Times of day and time zones, as a YAML gives them."""

import re
from datetime import time
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

TIME = r"^([01]?[0-9]|2[0-3]):([0-5][0-9])(:00)?$"  # as JSON has it, with seconds
AN_HOUR = 60


def _time_of_day(value: object) -> object:
    if isinstance(value, time):
        return value
    if isinstance(value, int) and AN_HOUR <= value < 24 * AN_HOUR:
        # YAML 1.1 takes 22:00 without quotes for a number of base 60
        return time(value // AN_HOUR, value % AN_HOUR)
    match = re.fullmatch(TIME, value) if isinstance(value, str) else None
    if not match:
        raise PydanticCustomError("time_of_day", "a time of day is hours and minutes, such as 22:00 or 06:30")
    return time(int(match[1]), int(match[2]))


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # of what leads out of the data, of a folder in it, of the others
        raise PydanticCustomError("time_zone", "this is no time zone; use a name such as Europe/Zurich") from error
    return name


TimeOfDay = Annotated[time, BeforeValidator(_time_of_day, json_schema_input_type=Annotated[str, Field(pattern=TIME)])]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
