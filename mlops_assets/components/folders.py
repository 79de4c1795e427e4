"""Dagster's component tree, told of the folders of `defs` one by one.

Left to itself the tree reads all YAMLs when it is asked for one, so that a mistake of syntax in any of them is the
error of all; and for each one that it loads it walks them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster.components.core.decl import DefsFolderDecl, build_filesystem_component_decl_from_context
from dagster.components.core.defs_module import ComponentPath

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import dagster as dg
    from dagster.components.core.decl import ComponentDecl


def declare(tree: dg.ComponentTree, path: Path) -> ComponentDecl | None:
    """Tell the tree what a folder or a Python file holds, and all that lies below it; None where that is nothing.

    Raises:
        Exception: whatever Dagster and its YAML parser raise for what they cannot read.
    """
    context = tree.decl_load_context.for_component_loc(ComponentPath.from_path(path))
    declared = build_filesystem_component_decl_from_context(context)
    if declared is not None:
        for place, inner in declared.iterate_loc_component_decl_pairs():
            tree.state_tracker.set_cache_data(place, component_decl=inner)
    return declared


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
