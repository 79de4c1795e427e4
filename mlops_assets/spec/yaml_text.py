"""What a YAML's text says before it is a spec: keys that are there twice, and references to the environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Path = tuple[str | int, ...]
    ErrorAt = Callable[[Path, str], SpecError]

REFERENCE = re.compile(r"""\{\{\s*env(?:\.(\w+)|\(\s*["'](\w+)["']\s*(?:,\s*["']([^"']*)["']\s*)?\))\s*\}\}""")
# They are shown in user interfaces, where nothing of the environment belongs
NO_REFERENCES = ("description", "owners")


def check_keys(text: str, file: str) -> None:
    """Refuse keys that are there twice: YAML would take the last one without a word.

    Raises:
        SpecError: one line for each of them.
    """
    import yaml

    # libyaml's parser is ten times as fast as the one in Python, which is there where PyYAML was built without it
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    twice = [
        SpecError(f"{key} is there twice, first in line {first}", where=f"{file}:{second}", remedy="remove one")
        for document in yaml.compose_all(text, Loader=loader)
        for key, first, second in _repeated(document)
    ]
    if twice:
        raise twice[0] if len(twice) == 1 else SpecError("\n".join(map(str, twice)))


def _repeated(node: Any) -> Iterator[tuple[str, int, int]]:
    """Each key that a mapping has twice, with the lines of both, counted from 1."""
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _repeated(item)
    if isinstance(node, MappingNode):
        lines = dict[str, int]()
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in lines:
                    yield key.value, lines[key.value], line
                lines.setdefault(key.value, line)
            yield from _repeated(value)


def fill_in(attributes: Mapping[str, Any], error_at: ErrorAt) -> dict[str, Any]:
    """The attributes with each `{{ env.NAME }}` or `{{ env("NAME", "default") }}` as the environment has it.

    Nothing else is a template: a YAML is data, and loading one runs nothing. `error_at` makes the error for a field.
    """
    return {key: _filled_in(value, (key,), error_at) for key, value in attributes.items()}


def _filled_in(value: Any, path: Path, error_at: ErrorAt) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(item, (*path, key), error_at) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, (*path, index), error_at) for index, item in enumerate(value)]
    if not isinstance(value, str) or not ("{{" in value or "{%" in value):
        return value
    if path[0] in NO_REFERENCES:
        raise error_at(path, f"{path[0]} is shown to everybody; write it without a template")
    if "{{" in REFERENCE.sub("", value) or "{%" in value:
        raise error_at(path, f'{value[:60]!r}: a template is {{{{ env.NAME }}}} or {{{{ env("NAME", "default") }}}}')
    for name, quoted, default in REFERENCE.findall(value):
        if (name or quoted) not in os.environ and not default:
            hint = f'{{{{ env("{name or quoted}", "default") }}}}'
            raise error_at(path, f"the environment has no {name or quoted}; set it, or give a default, {hint}")
    return REFERENCE.sub(lambda match: os.environ.get(match[1] or match[2], match[3]), value)
