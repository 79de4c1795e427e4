"""From a model's YAML to its spec; what is wrong is told with file, line, field and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlops_assets.ml.errors import SpecError
from mlops_assets.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        lines = [_line(details, positions, file) for details in error.errors(include_url=False)]
        raise SpecError("\n".join(lines)) from None


def _line(details: ErrorDetails, positions: SourcePositionTree | None, file: str) -> str:
    path = _path(details)
    place = file
    if positions is not None:
        position, _ = positions.lookup_closest_and_path(("attributes", *path), None)
        place = f"{file}:{position.start.line}"
    field = ".".join(str(part) for part in path)
    return f"{place}: {field}: {_message(details, path)}" if field else f"{place}: {_message(details, path)}"


def _path(details: ErrorDetails) -> Path:
    field: str = details.get("ctx", {}).get("field", "")
    inner = tuple(int(part) if part.isdigit() else part for part in field.split(".") if part)
    return (*details["loc"], *inner)


def _message(details: ErrorDetails, path: Path) -> str:
    value = details["input"]
    match details["type"]:
        case "extra_forbidden":
            return f"there is no such field; allowed here: {', '.join(_fields(path[:-1]))}"
        case "missing":
            return "this field is missing; add it"
        case "string_pattern_mismatch":
            return (
                f"{value!r} does not match the pattern {details['ctx']['pattern']}" if "ctx" in details else "bad value"
            )
        case "spec" | "duration" | "import_path" | "cron":
            return details["msg"] if details["type"] == "spec" else f"{value!r}: {details['msg']}"
        case _:
            return f"{_shown(value)}: {details['msg'][:1].lower()}{details['msg'][1:]}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields(path: Sequence[str | int]) -> list[str]:
    """The field names that are allowed at `path`."""
    here: Any = ModelSpec
    for part in path:
        here = _inside(here, part)
    return [info.alias or name for name, info in here.model_fields.items()] if _is_model(here) else []


def _inside(here: Any, part: str | int) -> Any:
    if _is_model(here):
        for name, info in here.model_fields.items():
            if part in (name, info.alias):
                return next((kind for kind in (info.annotation, *get_args(info.annotation)) if _usable(kind)), None)
        return None
    return get_args(here)[-1] if get_origin(here) is dict else None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _usable(kind: Any) -> bool:
    return _is_model(kind) or (get_origin(kind) is dict and get_origin(kind) is not Literal)
