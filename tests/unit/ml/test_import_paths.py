"""Classes and functions by import path: checked without importing, imported where they are used."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydantic import TypeAdapter, ValidationError

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.import_paths import ImportPath, construct, find_module, import_class

if TYPE_CHECKING:
    from pathlib import Path

PATH = TypeAdapter(ImportPath)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a user: a module that must not be imported for a check, and a namespace package beside it."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "own/nets.py").write_text("class Net: ...\n")
    (tmp_path / "space").mkdir()
    (tmp_path / "space/nets.py").write_text("class Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["own.nets.Net", "space.nets.Net", "torch.nn.Linear", "own.Net"])
def test_a_path_is_checked_without_importing_anything(package: Path, path: str) -> None:
    assert PATH.validate_python(path) == path
    assert "own" not in sys.modules


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own.networks.Net", "no module own.networks"),
        ("nowhere.Net", "no module nowhere"),
        ("Net", "package.module.ClassName"),
        ("own.nets.", "package.module.ClassName"),
        ("own nets.Net", "package.module.ClassName"),
        (3, "package.module.ClassName"),
    ],
)
def test_what_is_no_path_or_leads_nowhere_is_told(package: Path, path: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PATH.validate_python(path)


def test_finding_a_module_imports_not_even_its_parents() -> None:
    program = (
        "import sys; from mlops_assets.ml.import_paths import find_module\n"
        "assert find_module('sklearn.linear_model') and find_module('torch.nn.modules')\n"
        "print([name for name in ('sklearn', 'torch') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert find_module("no.such.module") is None


def test_a_class_is_imported_by_its_path() -> None:
    assert import_class("collections.OrderedDict").__name__ == "OrderedDict"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such.Net", r"train\.network: no\.such\.Net cannot be imported .*; correct the path"),
        ("collections.Net", "cannot be imported"),
        ("collections.namedtuple", r"is no class; name a torch\.nn\.Module"),
    ],
)
def test_what_is_no_class_is_told(path: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        import_class(path)


def test_an_object_is_made_of_the_params() -> None:
    assert construct(complex, {"imag": 2}, real=1) == 1 + 2j


@pytest.mark.parametrize(("kind", "params"), [(complex, {"imaginary": 2}), (range, {}), (bytearray, {"source": -1})])
def test_params_that_do_not_fit_are_told(kind: type, params: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match=rf"train\.params: they do not fit {kind.__name__}: .*; correct them"):
        construct(kind, params)
