"""`python -m mlops_assets.spec.reference FILE`: writes the page of all YAML fields and all errors, from the code."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_assets.ml import errors
from mlops_assets.ml.values import EXPONENT
from mlops_assets.spec.json_schema import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} item",
    "minProperties": "at least {} NAME",
    "pattern": "`{}`",
}
PAGE = """\
# Reference

`make schema` writes this page from the code, and a test compares the two.

## Fields of a model's YAML

They stand under `attributes` of a `defs.yaml`; `NAME` is the name of a column or of a view. A duration is a number and
a unit, such as `60s`, `10m`, `2h` or `7d`. A wrong value, or values that do not fit together, are told with file,
line and field.

{fields}

## Errors

All are `MlopsError`s (`mlops_assets/ml/errors.py`) and read `where: what is wrong; what to do.` A step whose error may
pass by itself can be retried; for the others somebody has to change something first.

{errors}
"""


class Field(NamedTuple):
    """A field of the YAML as the page shows it; `default` is empty where its parts have defaults of their own."""

    name: str
    type: str
    default: str
    allowed: str
    description: str


def fields() -> list[Field]:
    """All fields of a model's YAML by dotted name, nested ones after the field that holds them."""
    whole = schema()
    return list(_fields(whole["properties"]["attributes"], whole["$defs"], ""))


def _fields(parent: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[Field]:
    for key, shown in parent.get("properties", {}).items():
        name, kind = f"{prefix}{key}", _resolved(shown, definitions)
        default = "required" if key in parent.get("required", ()) else _default(shown)
        yield Field(name, _type(kind), default, _allowed(kind), shown.get("description", ""))
        entry = kind.get("additionalProperties")
        if "properties" in kind:
            yield from _fields(kind, definitions, f"{name}.")
        elif isinstance(entry, dict):
            yield from _fields(_resolved(entry, definitions), definitions, f"{name}.NAME.")


def _resolved(kind: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference or an optional field leads to."""
    kind = next((option for option in kind.get("anyOf", ()) if option.get("type") != "null"), kind)
    return definitions[kind["$ref"].rpartition("/")[2]] if "$ref" in kind else kind


def _type(kind: dict[str, Any]) -> str:
    if kind["type"] == "array":
        return f"list of {kind['items']['type']}"
    return kind["type"] if isinstance(kind["type"], str) else kind["type"][0]


def _default(shown: dict[str, Any]) -> str:
    value = shown.get("default")
    if isinstance(value, dict):
        return ""
    return "none" if value in (None, "", []) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _allowed(kind: dict[str, Any]) -> str:
    values = [f"`{value}`" for value in kind.get("enum", ())]
    parts = (kind, kind.get("items", {}))
    limits = [(text, part[key]) for part in parts for key, text in LIMITS.items() if key in part]
    return ", ".join(values + [text.format(limit) for text, limit in limits if limit != EXPONENT])


def error_types() -> list[type[errors.MlopsError]]:
    """The errors below `MlopsError`, in the order of their tree."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.MlopsError)]
    return sorted(kinds, key=lambda kind: inspect.getsourcelines(kind)[1])[1:]


def page() -> str:
    """The page as Markdown."""
    rows = [(f"`{f.name}`", f.type, f.default, f.allowed, f.description.replace("*", r"\*")) for f in fields()]
    kinds = [
        (f"`{kind.__name__}`", f"`{kind.__mro__[1].__name__}`", kind.__doc__ or "", "yes" if kind.retryable else "no")
        for kind in error_types()
    ]
    return PAGE.format(
        fields=_table("field | type | default | allowed | meaning", rows),
        errors=_table("error | is a | meaning | may pass by itself", kinds),
    )


def _table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in (head, " | ".join("---" for _ in rows[0]), *lines))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
