"""What is stored and configured: immutable values, documents in a folder, durations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import TypeAdapter, ValidationError

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Document, Duration, Value, problem

if TYPE_CHECKING:
    from pathlib import Path

DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)


class Weather(Document):
    """The smallest document."""

    FILE = "weather.json"

    place: str
    degrees: float = 0.0


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    Weather(place="Bern", degrees=3.5).write(tmp_path)
    assert Weather.read(tmp_path) == Weather(place="Bern", degrees=3.5)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"place": 3}', '{"place": "Bern", "more": 1}'])
def test_a_damaged_document_is_told_with_its_path_and_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "weather.json").write_text(content)
    with pytest.raises(DataError, match="no Weather") as caught:
        Weather.read(tmp_path)
    assert caught.value.where == str(tmp_path / "weather.json")
    assert caught.value.remedy == "delete the snapshot and materialize it again"


def test_a_document_that_is_not_there_is_the_callers_business(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Weather.read(tmp_path)


def test_a_value_cannot_be_changed_and_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Weather(place="Bern").place = "Basel"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Weather.model_validate({"place": "Bern", "wind": 3})


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("10m", 600), ("2h", 7_200), ("7d", 604_800), (timedelta(minutes=2), 120)]
)
def test_a_duration_is_a_number_and_a_unit(text: object, seconds: int) -> None:
    assert DURATION.validate_python(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["0s", "60", "1.5h", "-1m", "3w", "PT1M", 60, None])
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(ValidationError, match="such as 60s or 7d"):
        DURATION.validate_python(text)


def test_a_problem_carries_its_field() -> None:
    found = problem("compute.workers", "set it to {1}")
    assert (found.type, found.message(), found.context) == (
        "spec",
        "set it to {1}",
        {"message": "set it to {1}", "field": "compute.workers"},
    )


def test_values_are_values_of_the_same_kind() -> None:
    assert issubclass(Document, Value)
