"""The base of everything that is stored or configured, and the words that all rooms share."""

from __future__ import annotations

import difflib
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic_core import PydanticCustomError

from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Task = Literal["regression", "binary_classification", "multiclass_classification"]
Classes = tuple[bool | int | float | str, ...]
MODEL_NAME = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
LONGEST_MODEL_NAME = 41  # with the longest space before it, a label of Kubernetes
SPACE_SEPARATOR = "--"  # after the name of a space, before that of a model
SERVED_NAME = rf"^(?=.{{1,63}}$)([a-z][a-z0-9-]*{SPACE_SEPARATOR})?{MODEL_NAME[1:]}"
MOST_DAYS = 36_525  # a hundred years; a moment that lies further back than the calendar goes is none
DURATION = r"^([1-9][0-9]{0,5})([smhd])$"
EXPONENT = r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"  # YAML 1.1, which Dagster reads, takes 1e-3 for text


def as_answered(known: bool | int | float | str) -> int | float | str:
    """A class as a model's answers name it.

    >>> as_answered(True), as_answered(2.5), as_answered("a")
    (1, 2.5, 'a')
    """
    return int(known) if isinstance(known, bool) else known


class Value(BaseModel):
    """An immutable value that refuses unknown fields; NaN and infinity come back from its JSON as they went in."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema of a YAML: numbers such as 1e-3 may be the text that YAML 1.1 makes of them, as in loading."""
        shown = handler(schema)
        for field in handler.resolve_ref_schema(shown)["properties"].values():
            for kind in (field, *field.get("anyOf", ())):
                if kind.get("type") == "number":
                    kind |= {"type": ["number", "string"], "pattern": EXPONENT}
        return shown


class Document(Value):
    """A value that is stored in a folder, as the JSON file `FILE`."""

    FILE: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The document in `folder`.

        Raises:
            DataError: it is damaged, or of another kind.
        """
        try:
            return cls.model_validate_json((folder / cls.FILE).read_bytes())
        except ValidationError as error:
            raise DataError(
                f"no {cls.__name__}: {error.errors()[0]['msg']}",
                where=str(folder / cls.FILE),
                remedy="delete the snapshot and materialize it again",
            ) from error

    def write(self, folder: Path) -> None:
        """Write the document into `folder`."""
        (folder / self.FILE).write_text(self.model_dump_json(indent=1))


def _duration(value: object) -> object:
    """Turn `60s`, `10m`, `2h` or `7d` into a timedelta."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(DURATION, value) if isinstance(value, str) else None
    if not match:
        message = "a duration is a number above 0, of six digits at most, and a unit, s, m, h or d, such as 60s or 7d"
        raise PydanticCustomError("duration", message)
    return timedelta(**{_DURATION_UNITS[match[2]]: int(match[1])})


_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
Duration = Annotated[
    timedelta, BeforeValidator(_duration, json_schema_input_type=Annotated[str, Field(pattern=DURATION)])
]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at what is known by a name that is nearly the same, for a message; nothing where none is.

    >>> did_you_mean("epoch", ["epochs", "batch_size"]), did_you_mean("colour", ["epochs"])
    (' (did you mean epochs?)', '')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def problem(field: str, message: str) -> PydanticCustomError:
    """What a validator raises about `field`, a dotted path below the value that is being checked."""
    return PydanticCustomError("spec", "{message}", {"message": message, "field": field})
