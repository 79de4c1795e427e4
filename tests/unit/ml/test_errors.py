"""The errors that are raised on purpose: one tree, whose picture is true, and messages made of their parts."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from mlops_assets.ml import errors
from mlops_assets.ml.errors import DataError, MlopsError, TrainingError, TrainingInterrupted

PROJECT = Path(__file__).parents[3]
TREE = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MlopsError)}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"what": "a.csv is empty"}, "a.csv is empty."),
        ({"what": "it is empty", "where": "a.csv"}, "a.csv: it is empty."),
        ({"what": "it is empty", "remedy": "put data there"}, "it is empty; put data there."),
        ({"what": "it is empty", "where": "a.csv", "remedy": "remove it"}, "a.csv: it is empty; remove it."),
        ({"what": "is it empty?"}, "is it empty?"),
        ({"what": "one line\nanother line"}, "one line\nanother line"),
    ],
)
def test_the_message_is_made_of_the_parts(parts: dict[str, str], message: str) -> None:
    error = DataError(**parts)
    assert str(error) == message
    assert (error.what, error.where, error.remedy) == (parts["what"], parts.get("where", ""), parts.get("remedy", ""))


def test_the_picture_shows_every_error_and_which_may_be_tried_again() -> None:
    lines = re.findall(r"[├└]── (\w+) +([^\n]+)", errors.__doc__ or "")
    assert {name for name, _ in lines} == TREE.keys() - {"MlopsError"}
    assert {name for name, text in lines if "(retryable)" in text} == {
        name for name, kind in TREE.items() if kind.retryable
    }


def test_an_interrupted_training_is_a_training_error() -> None:
    with pytest.raises(TrainingError):
        raise TrainingInterrupted("asked to stop")


def test_no_other_module_lets_errors_of_its_own_out() -> None:
    bases = {*TREE, "Exception", "RuntimeError", "ValueError"}
    found = {
        (str(path.relative_to(PROJECT)), node.name)
        for package in ("mlops_assets", "resources")
        for path in (PROJECT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and bases & {ast.unparse(base) for base in node.bases}
        if not node.name.startswith("_")
    }
    assert {file for file, _ in found} == {"mlops_assets/ml/errors.py"}
