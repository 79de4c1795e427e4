"""From a model's YAML to its spec; what is wrong is told with file, line, field and what is allowed."""

from __future__ import annotations

import math
from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.values import did_you_mean
from mlops_assets.spec.model_spec import ModelSpec
from mlops_assets.spec.yaml_text import fill_in

if TYPE_CHECKING:
    from dagster_shared.yaml_utils.source_position import SourcePositionTree
    from pydantic_core import ErrorDetails

    from mlops_assets.spec.yaml_text import ErrorAt

Path = tuple[str | int, ...]


def load_spec(attributes: dict[str, Any], positions: SourcePositionTree | None, file: str) -> ModelSpec:
    """The spec that `attributes` describe, with references to the environment filled in.

    Raises:
        SpecError: one line for each thing that is wrong, `file:line: field: what is wrong and what is allowed`.
    """

    def error_at(path: Path, message: str) -> SpecError:
        return _told(message, path, positions, file)

    given = fill_in(attributes, error_at)
    _finite(given, error_at)
    try:
        return ModelSpec.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A list whose items are wrong is then said to be too short as well
        inner = {details["loc"][:-1] for details in found}
        told = [details for details in found if details["type"] != "too_short" or details["loc"] not in inner]
        problems = [_problem(details, positions, file) for details in told]
        raise problems[0] if len(problems) == 1 else SpecError("\n".join(map(str, problems))) from None


def _finite(value: Any, error_at: ErrorAt, path: Path = ()) -> None:
    """Refuse .nan and .inf, which YAML knows and no field means."""
    if isinstance(value, dict):
        for key, item in value.items():
            _finite(item, error_at, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            _finite(item, error_at, (*path, index))
    if isinstance(value, float) and not math.isfinite(value):
        raise error_at(path, f"{value} is no number here; give a finite one, or remove the field")


def _told(message: str, path: Path, positions: SourcePositionTree | None, file: str) -> SpecError:
    where = file
    if positions is not None:
        position, _ = positions.lookup_closest_and_path(("attributes", *path), None)
        where = f"{file}:{position.start.line}"
    field = ".".join(str(part) for part in path)
    what, _, remedy = message.partition("; ")
    return SpecError(what, where=f"{where}: {field}" if field else where, remedy=remedy)


def _problem(details: ErrorDetails, positions: SourcePositionTree | None, file: str) -> SpecError:
    path = _path(details)
    return _told(_message(details, path), path, positions, file)


def _path(details: ErrorDetails) -> Path:
    field: str = details.get("ctx", {}).get("field", "")
    inner = tuple(int(part) if part.isdigit() else part for part in field.split(".") if part)
    outer = details["loc"][:-1] if details["loc"][-1:] == ("[key]",) else details["loc"]
    return (*outer, *inner)


def _message(details: ErrorDetails, path: Path) -> str:
    shown, message = _shown(details["input"]), details["msg"]
    match details["type"]:
        case "extra_forbidden":
            allowed = _allowed_fields(path[:-1])
            hint = did_you_mean(str(path[-1]), allowed)
            message = f"there is no such field{hint}; allowed here: {', '.join(allowed)}"
        case "missing":
            message = "this field is missing; add it"
        case "string_pattern_mismatch":
            message = f"{shown} does not match the pattern {details.get('ctx', {}).get('pattern')}"
        case "too_short":
            message = f"{shown}: give at least {details.get('ctx', {}).get('min_length')}"
        case "string_type" if isinstance(details["input"], bool | int | float | date):
            message = f"YAML reads this as {shown}; put it in quotes to have the text"
        case "tuple_type":
            message = f"{shown}: give a list, such as [a, b]"
        case "dict_type" | "model_type" | "model_attributes_type":
            found = "it is empty" if details["input"] is None else f"{shown} is no set of fields"
            message = f"{found}; give fields: {_wanted_fields(path) or 'name: value'}"
        case "spec":
            pass  # our own, about several fields
        case _:
            message = f"{shown}: {message[:1].lower()}{message[1:]}"
    return message


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _allowed_fields(path: Path) -> list[str]:
    """The field names that are allowed at `path`, as the JSON schema has them."""
    return list(_schema_at(path).get("properties", ()))


def _wanted_fields(path: Path) -> str:
    """The fields that must be given at `path`, with what they are, and those that can be; empty where any can."""
    here = _schema_at(path)
    fields: dict[str, Any] = here.get("properties", {})
    needed = [f"{name} ({fields[name].get('description', 'see its own fields')})" for name in here.get("required", ())]
    others = ", ".join(name for name in fields if name not in here.get("required", ()))
    if not needed:
        return others
    return f"{', '.join(needed)}{f'; and of {others} what is needed' if others else ''}"


def _schema_at(path: Path) -> dict[str, Any]:
    schema = ModelSpec.model_json_schema()
    here: dict[str, Any] = schema
    for part in path:
        here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        for option in (here, *here.get("anyOf", ())):
            if "$ref" in option:
                here = schema["$defs"][option["$ref"].rpartition("/")[2]]
    return here
