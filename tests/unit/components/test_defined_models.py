"""Which models the YAMLs of a project define, broken ones among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.components.defined_models import (
    defined_models,
    defined_spec,
    defined_specs,
    defines_others,
    model_files,
)
from mlops_assets.ml.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path


def test_files_are_found_at_any_depth_in_one_order(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "b" / "defs.yaml", tmp_path / "c" / "defs.yaml"]
    for file in reversed(files):
        file.parent.mkdir(parents=True)
        file.write_text("")
    (tmp_path / "c" / "other.yaml").write_text("")
    assert model_files(tmp_path) == files


def test_a_broken_yaml_still_defines_its_model(tmp_path: Path) -> None:
    files = {
        "a": "type: x\nattributes:\n  model: first\n---\ntype: x\nattributes: {model: second}\n",
        "b": "type: x\nattributes:\n  model: third\n  typo: [\n",
        "c": "[]\n",
    }
    for folder, text in files.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "defs.yaml").write_text(text)
    assert defined_models(tmp_path).keys() == {"first", "second", "third", "b"}
    assert defined_models().keys() >= {"iris", "flight_delay", "fraud_detection"}


def test_the_spec_of_a_model_is_read_from_its_yaml(tmp_path: Path) -> None:
    found = defined_spec("iris")
    assert found is not None
    assert found.model == "iris"
    assert defined_spec("no_such_model") is None
    (tmp_path / "defs.yaml").write_text("type: x\nattributes:\n  model: broken\n  typo: [\n")
    with pytest.raises(SpecError, match=r"defs.yaml: this is no YAML; mlops-assets check says where"):
        defined_spec("broken", tmp_path)
    (tmp_path / "defs.yaml").write_text("type: x\nattributes:\n  model: broken\n  task: singing\n")
    with pytest.raises(SpecError, match=r"defs.yaml:4: task: "):
        defined_spec("broken", tmp_path)


def test_the_specs_of_all_models_come_beside_the_files_that_have_none(tmp_path: Path) -> None:
    found, broken = defined_specs()
    assert {"iris", "flight_delay", "fraud_detection"} <= found.keys()
    assert broken == []
    for folder, text in {"a": "attributes: [", "b": "attributes: {model: snow, task: singing}", "c": "[]"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "defs.yaml").write_text(text)
    assert defined_specs(tmp_path) == ({}, [str(tmp_path / folder / "defs.yaml") for folder in "ab"])


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("attributes:\n  model: iris\n", False),
        ("attributes: {task: regression, model: 'iris'}", False),
        ("attributes:\n  model: irises # not iris\n", True),
        ("attributes: {model: other, train: {params: {model: iris}}}", False),
        ("attributes:\n  model: '{{ env.NAME }}'\n", False),
        ("type: other.Component\nattributes: {name: x}\n", False),
    ],
)
def test_a_yaml_that_plainly_defines_others_is_told_by_its_text(tmp_path: Path, text: str, others: bool) -> None:
    file = tmp_path / "defs.yaml"
    file.write_text(text)
    assert defines_others(file, {"iris"}) == others
