"""`mlops-assets check`: every problem of every file, with file and line, in every document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mlops_assets.cli.check import check
from mlops_assets.ml.errors import SpecError
from tests.support import attributes

if TYPE_CHECKING:
    from pathlib import Path

TYPE = "mlops_assets.ModelPipeline"


def document(**changed: Any) -> dict[str, Any]:
    return {"type": TYPE, "attributes": attributes(**changed)}


def written(folder: Path, *documents: Any, name: str = "defs.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return folder / name


def problems(*paths: Path) -> list[str]:
    return list(check(paths).problems)


def test_sound_models_have_no_problems(tmp_path: Path) -> None:
    written(tmp_path / "a", document(), document(model="second"))
    written(tmp_path / "b", document(model="third"))
    assert check([tmp_path]) == (2, ("weather", "second", "third"), ())


def test_each_wrong_document_of_each_file_is_told(tmp_path: Path) -> None:
    written(tmp_path / "a", document(train__epoch=3), document(model="second", gate__metric="acuracy"))
    written(tmp_path / "b", document(model="third", target__column="rian"))
    first, second, third = problems(tmp_path)
    assert "train.epoch: there is no such field (did you mean epochs?)" in first
    assert "gate.metric: there is no metric acuracy (did you mean accuracy?)" in second
    assert "b/defs.yaml" in third
    assert "target.column" in third


def test_problems_of_a_file_come_in_the_order_of_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "defs.yaml"
    text = yaml.safe_dump(document(train__network="sklearn.linear_model.LogisticRegresion"), sort_keys=False)
    file.write_text(text.replace("task:", "model: twice\n  task:").replace("metric: accuracy", "metric: acuracy"))
    lines = [int(problem.removeprefix(f"{file}:").partition(":")[0]) for problem in problems(file)]
    assert len(lines) == 3
    assert lines == sorted(lines)


def test_two_files_with_one_model_are_told_with_both_places(tmp_path: Path) -> None:
    written(tmp_path / "a", document())
    written(tmp_path / "b", document())
    [problem] = problems(tmp_path)
    assert f"{tmp_path}/b/defs.yaml:3: model: model weather is defined in {tmp_path}/a/defs.yaml:3 as well" in problem


def test_classes_are_looked_at_where_other_fields_are_wrong(tmp_path: Path) -> None:
    file = written(tmp_path, document(task="guess", train__network="sklearn.linear_model.LogisticRegresion"))
    assert any("did you mean LogisticRegression?" in problem for problem in problems(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty; write a model, with type: mlops_assets.ModelPipeline"),
        ("a: [1", "this is no YAML (expected ',' or ']'"),
        ("just text", ":1: this is no component"),
        ("attributes: {}", ":1: this is no component"),
        (f"type: {TYPE}", ":1: the model is missing"),
        ("type: mlops_assets.ModelPipelin", "type: there is no component mlops_assets.ModelPipelin (did you mean"),
        ("type: nowhere.Component", "type: there is no component nowhere.Component (ModuleNotFoundError"),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "defs.yaml"
    file.write_text(content)
    [problem] = problems(file)
    assert message in problem


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    file = tmp_path / "defs.yaml"
    file.write_bytes(b"\xff\xfe\x00a")
    [problem] = problems(file)
    assert "it cannot be read" in problem


def test_dagsters_own_keys_are_taken_and_others_told(tmp_path: Path) -> None:
    keys = {"requirements": {"env": ["BUCKET"]}, "post_processing": {"assets": []}}
    assert problems(written(tmp_path, document() | keys)) == []
    [problem] = problems(written(tmp_path, document() | {"requirments": {}}))
    assert "requirments: there is no such key (did you mean requirements?)" in problem


def test_other_components_are_left_to_dagster(tmp_path: Path) -> None:
    assert problems(written(tmp_path, {"type": "dagster.DefsFolderComponent", "attributes": {"x": 1}})) == []


def test_a_path_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no"):
        check([tmp_path / "nothing"])
