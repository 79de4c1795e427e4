"""Folders are declared to Dagster's component tree one by one."""

from __future__ import annotations

import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mlops_assets.components.folders import declare, declare_folder
from tests.support import attributes


def test_a_folder_is_declared_without_a_look_at_those_beside_it() -> None:
    with create_defs_folder_sandbox() as sandbox:
        root = sandbox.defs_folder_path
        for name in ("good", "bad"):
            (root / name).mkdir()
        content = {"type": "mlops_assets.ModelPipeline", "attributes": attributes(model="good")}
        (root / "good/defs.yaml").write_text(yaml.safe_dump(content))
        (root / "bad/defs.yaml").write_text("attributes: [")
        with sandbox.build_component_tree() as tree:
            declared = declare(tree, root / "good")
            assert declared is not None
            declare_folder(tree, root, {root / "good": declared})
            assert tree.build_defs(root / "good").assets
            assert len(list(tree.find_root_decl().iterate_child_component_decls())) == 1
            with pytest.raises(yaml.YAMLError, match="bad/defs.yaml"):
                declare(tree, root / "bad")


def test_a_folder_without_anything_declares_nothing() -> None:
    with create_defs_folder_sandbox() as sandbox, sandbox.build_component_tree() as tree:
        (sandbox.defs_folder_path / "notes").mkdir()
        assert declare(tree, sandbox.defs_folder_path / "notes") is None
