"""A YAML file as Dagster's parser reads it, values and their places, by libyaml, which takes a fifth of the time."""

from __future__ import annotations

from typing import Any

import yaml
from dagster_shared.yaml_utils import parse_yamls_with_source_position
from dagster_shared.yaml_utils.source_position import (
    LineCol,
    SourcePosition,
    SourcePositionTree,
    ValueAndSourcePositionTree,
)
from yaml.nodes import MappingNode, SequenceNode

TIMESTAMP = "tag:yaml.org,2002:timestamp"
COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may have been built without libyaml


class _Loader(SAFE):  # pyright: ignore[reportUntypedBaseClass]
    """Leaves moments the texts that they are, as Dagster does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, file: str) -> list[ValueAndSourcePositionTree]:
    """The documents of a file.

    Raises:
        yaml.YAMLError: what Dagster's parser says about what it cannot read.
    """
    loader: Any = _Loader(text)
    try:
        documents = list[ValueAndSourcePositionTree]()
        while loader.check_node():
            documents.append(_document(loader, loader.get_node(), file))
        return documents
    except (yaml.YAMLError, TypeError, RecursionError):
        # What is wrong or rare: the words, and the rules, are those of Dagster's
        return parse_yamls_with_source_position(text, file)
    finally:
        loader.dispose()


def _document(loader: Any, node: Any, file: str) -> ValueAndSourcePositionTree:
    value: Any = None
    children: dict[Any, SourcePositionTree] = {}
    if isinstance(node, (MappingNode, SequenceNode)) and node.tag not in COLLECTIONS:
        raise TypeError(node.tag)
    if isinstance(node, MappingNode):
        loader.flatten_mapping(node)
        value = {}
        for key_node, value_node in node.value:
            key, inner = loader.construct_object(key_node, deep=True), _document(loader, value_node, file)
            value[key] = inner.value
            positions = inner.source_position_tree.children
            children[key] = SourcePositionTree(position=_place(key_node, file), children=positions)
    elif isinstance(node, SequenceNode):
        inner = [_document(loader, item, file) for item in node.value]
        value = [item.value for item in inner]
        children = {index: item.source_position_tree for index, item in enumerate(inner)}
    else:
        value = loader.construct_object(node, deep=True)
    return ValueAndSourcePositionTree(value, SourcePositionTree(position=_place(node, file), children=children))


def _place(node: Any, file: str) -> SourcePosition:
    start, end = node.start_mark, node.end_mark
    return SourcePosition(
        filename=file, start=LineCol(start.line + 1, start.column + 1), end=LineCol(end.line + 1, end.column + 1)
    )
