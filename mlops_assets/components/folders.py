"""Dagster's component tree, told of the folders of `defs` one by one.

Left to itself the tree reads all YAMLs when it is asked for one, so that a mistake of syntax in any of them is the
error of all; and for each one that it loads it walks them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster.components.core.decl import (
    DefsFolderDecl,
    YamlFileDecl,
    build_component_decl_from_yaml_document,
    build_filesystem_component_decl_from_context,
)
from dagster.components.core.defs_module import ComponentPath

from mlops_assets.components.defined_models import FILE
from mlops_assets.components.read_yaml import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import dagster as dg
    from dagster.components.core.decl import ComponentDecl
    from dagster_shared.yaml_utils.source_position import ValueAndSourcePositionTree


def declare(tree: dg.ComponentTree, path: Path) -> ComponentDecl | None:
    """Tell the tree what a folder or a Python file holds, and all that lies below it; None where that is nothing.

    Raises:
        Exception: whatever Dagster and its YAML parser raise for what they cannot read.
    """
    documents = _documents(path / FILE)
    if documents:
        declared = _of_yaml(tree, path, documents)
    else:
        context = tree.decl_load_context.for_component_loc(ComponentPath.from_path(path))
        declared = build_filesystem_component_decl_from_context(context)
    if declared is not None:
        for place, inner in declared.iterate_loc_component_decl_pairs():
            tree.state_tracker.set_cache_data(place, component_decl=inner)
    return declared


def _documents(file: Path) -> list[ValueAndSourcePositionTree]:
    return read_yaml(file.read_text(encoding="utf-8"), str(file)) if file.exists() else []


def _of_yaml(tree: dg.ComponentTree, path: Path, documents: Sequence[ValueAndSourcePositionTree]) -> ComponentDecl:
    """What Dagster declares of a folder's YAML once it has parsed it."""
    declared = list[Any]()
    for number, document in enumerate(documents):
        place = ComponentPath.from_path(path, number)
        context = tree.decl_load_context.for_component_loc(place)
        declared.append(build_component_decl_from_yaml_document(context, document, place))
    place = ComponentPath.from_path(path)
    return YamlFileDecl(
        loc=place,
        context=tree.decl_load_context.for_component_loc(place),
        decls=declared,
        source_positions=[document.source_position_tree.position for document in documents],
    )


def declare_folder(tree: dg.ComponentTree, path: Path, children: Mapping[Path, ComponentDecl]) -> ComponentDecl:
    """Tell the tree that a folder holds what was declared, and nothing else."""
    place = ComponentPath.from_path(path)
    declared = DefsFolderDecl(
        context=tree.decl_load_context.for_component_loc(place),
        loc=place,
        children=children,
        source_tree=None,
        component_file_model=None,
    )
    tree.state_tracker.set_cache_data(place, component_decl=declared)
    return declared
