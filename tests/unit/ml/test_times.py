"""Times of day and time zones of a YAML, which YAML itself may read in its own way."""

from __future__ import annotations

from datetime import time

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from mlops_assets.ml.times import TimeOfDay, TimeZone

TIME: TypeAdapter[time] = TypeAdapter(TimeOfDay)
ZONE: TypeAdapter[str] = TypeAdapter(TimeZone)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("22:00", time(22)), ("'22:00'", time(22)), ("6:30", time(6, 30)), ("06:30", time(6, 30)), ("0:05", time(0, 5))],
)
def test_a_time_means_the_same_with_quotes_and_without(written: str, meant: time) -> None:
    assert TIME.validate_python(yaml.safe_load(written)) == meant


def test_a_time_that_was_stored_comes_back() -> None:
    assert TIME.validate_json(TIME.dump_json(time(22))) == time(22)


@pytest.mark.parametrize("wrong", ["24:00", "7", 7, 1440, "noon", "22:60", None])
def test_what_is_no_time_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match=r"such as 22:00 or 06:30"):
        TIME.validate_python(wrong)


def test_a_time_zone_is_one_that_is_known() -> None:
    assert ZONE.validate_python("Europe/Zurich") == "Europe/Zurich"


@pytest.mark.parametrize("wrong", ["Bern", "", "../etc/passwd", "Europe", "/etc/passwd"])
def test_what_is_no_time_zone_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="use a name such as Europe/Zurich"):
        ZONE.validate_python(wrong)
