"""From a model's YAML to its spec; what is wrong is told with file, line, field and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mlops_assets.ml.errors import SpecError
from mlops_assets.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from dagster_shared.yaml_utils.source_position import SourcePositionTree
    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]


def load_spec(attributes: dict[str, Any], positions: SourcePositionTree | None, file: str) -> ModelSpec:
    """The spec that `attributes` describe.

    Raises:
        SpecError: one line for each thing that is wrong, `file:line: field: what is wrong and what is allowed`.
    """
    try:
        return ModelSpec.model_validate(attributes)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A list whose items are wrong is then said to be too short as well
        inner = {details["loc"][:-1] for details in found}
        told = [details for details in found if details["type"] != "too_short" or details["loc"] not in inner]
        problems = [_problem(details, positions, file) for details in told]
        raise problems[0] if len(problems) == 1 else SpecError("\n".join(map(str, problems))) from None


def _problem(details: ErrorDetails, positions: SourcePositionTree | None, file: str) -> SpecError:
    path = _path(details)
    where = file
    if positions is not None:
        position, _ = positions.lookup_closest_and_path(("attributes", *path), None)
        where = f"{file}:{position.start.line}"
    field = ".".join(str(part) for part in path)
    what, _, remedy = _message(details, path).partition("; ")
    return SpecError(what, where=f"{where}: {field}" if field else where, remedy=remedy)


def _path(details: ErrorDetails) -> Path:
    field: str = details.get("ctx", {}).get("field", "")
    inner = tuple(int(part) if part.isdigit() else part for part in field.split(".") if part)
    return (*details["loc"], *inner)


def _message(details: ErrorDetails, path: Path) -> str:
    shown, message = _shown(details["input"]), details["msg"]
    match details["type"]:
        case "extra_forbidden":
            message = f"there is no such field; allowed here: {', '.join(_allowed_fields(path[:-1]))}"
        case "missing":
            message = "this field is missing; add it"
        case "string_pattern_mismatch":
            message = f"{shown} does not match the pattern {details.get('ctx', {}).get('pattern')}"
        case "too_short":
            message = f"{shown}: give at least {details.get('ctx', {}).get('min_length')}"
        case "tuple_type":
            message = f"{shown}: give a list, such as [a, b]"
        case "dict_type" | "model_type" | "model_attributes_type":
            message = f"{shown}: give fields, such as {{name: value}}"
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
    schema = ModelSpec.model_json_schema()
    here = schema
    for part in path:
        here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        for option in (here, *here.get("anyOf", ())):
            if "$ref" in option:
                here = schema["$defs"][option["$ref"].rpartition("/")[2]]
    return list(here.get("properties", ()))
