"""What a training's version covers of its code: whatever can change what the class does, and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mlops_assets.ml import class_source as module
from mlops_assets.ml.class_source import class_source, library_of, needs_torch
from mlops_assets.ml.errors import TrainingError

PROJECT = Path(__file__).parents[3]
FILES = {
    "nets/__init__.py": "from .impl import Plain\nfrom .other import Unrelated\n",
    "nets/impl.py": (
        "from typing import TYPE_CHECKING\n"
        "from torch import nn\n"
        "from . import layers\n"
        "if TYPE_CHECKING:\n    from . import hints\n"
        "class Plain(nn.Module):\n"
        "    def forward(self, x):\n        from sizes import WIDTH\n        return layers.apply(x, WIDTH)\n"
    ),
    "nets/layers.py": "import nets.deep as deep\n\ndef apply(x, width):\n    return deep.twice(x)\n",
    "nets/deep.py": "def twice(x):\n    return 2 * x\n",
    "nets/hints.py": "X = int\n",
    "nets/other.py": "class Unrelated: ...\n",
    "nets/late.py": "from importlib import import_module\nNet = import_module('nets.other').Unrelated\n",
    "nets/forest.py": (
        "from sklearn import ensemble as e\n"
        "class Forest(e.RandomForestClassifier): ...\n"
        "class Tall(Forest): ...\n"
        "class Own(Forest):\n    def to_onnx(self): ...\n"
    ),
    "nets/mixed.py": ("from sklearn.linear_model import Ridge\nfrom . import embed\nclass OnEmbeddings(Ridge): ...\n"),
    "nets/embed.py": "def embed(x):\n    import torch\n    return torch.as_tensor(x)\n",
    "nets/mean.py": "import numpy as np\nclass Mean:\n    def to_onnx(self): ...\n",
    "sizes.py": "WIDTH = 3\n",
}


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package, which exports a class that another module defines with the help of others."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["nets/impl.py", "nets/layers.py", "nets/deep.py", "sizes.py"])
def test_editing_the_class_or_what_it_imports_is_seen(nets: Path, file: str) -> None:
    before = class_source(["nets.Plain"])
    assert before == class_source(["nets.Plain"])
    (nets / file).write_text(FILES[file] + "CHANGED = 1\n")
    assert class_source(["nets.Plain"]) != before


@pytest.mark.parametrize("file", ["nets/hints.py", "nets/other.py", "nets/forest.py"])
def test_editing_what_it_does_not_import_changes_nothing(nets: Path, file: str) -> None:
    before = class_source(["nets.Plain"])
    (nets / file).write_text(FILES[file] + "CHANGED = 1\n")
    assert class_source(["nets.Plain"]) == before


@pytest.mark.parametrize(
    ("path", "libraries"),
    [
        ("nets.Plain", {"numpy", "onnx", "onnxscript", "torch"}),
        ("nets.forest.Forest", {"numpy", "onnx", "scipy", "skl2onnx", "sklearn"}),
        ("sklearn.linear_model.LogisticRegression", {"numpy", "onnx", "scipy", "skl2onnx", "sklearn"}),
        ("mlops_assets.ml.networks.MLP", {"numpy", "onnx", "onnxscript", "torch"}),
    ],
)
def test_libraries_count_by_their_versions_and_only_those_that_decide(
    nets: Path, path: str, libraries: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = class_source([path])
    assert before.libraries.keys() == libraries
    assert before.libraries["numpy"] == importlib.metadata.version("numpy")
    monkeypatch.setattr(module, "version", lambda name: "99" if name in ("torch", "scikit-learn") else "1")
    assert class_source([path]) != before


def test_of_a_class_of_a_library_its_own_file_counts_and_not_what_names_it() -> None:
    assert list(class_source(["sklearn.linear_model.Ridge"]).files) == ["sklearn.linear_model._ridge"]


def test_several_classes_are_taken_together(nets: Path) -> None:
    both = class_source(["nets.forest.Forest", "nets.Plain"])
    assert both.files.keys() > class_source(["nets.Plain"]).files.keys()
    assert {"sklearn", "torch"} <= both.libraries.keys()


def test_a_name_that_is_made_at_run_time_is_found_by_importing_it(nets: Path) -> None:
    assert list(class_source(["nets.late.Net"]).files) == ["nets.other"]
    with pytest.raises(TrainingError, match="cannot be imported"):
        class_source(["nets.late.Missing"])


def test_nothing_is_imported_to_know_it() -> None:
    program = (
        "import sys; from mlops_assets.ml.class_source import class_source\n"
        "class_source(['tests.user_networks.Flat', 'sklearn.linear_model.Ridge', 'mlops_assets.ml.networks.MLP'])\n"
        "print([name for name in ('sklearn', 'torch', 'tests.user_networks') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("path", "library"),
    [
        ("nets.Plain", "torch"),
        ("nets.forest.Tall", "sklearn"),
        ("nets.forest.Own", ""),
        ("nets.Unrelated", ""),
        ("nets.late.Net", ""),
        ("nowhere.Net", ""),
    ],
)
def test_the_library_that_a_class_is_made_with_is_known_without_importing_it(
    nets: Path, path: str, library: str
) -> None:
    assert library_of(path) == library


def test_packages_that_lie_on_the_path_alone_are_libraries(tmp_path: Path) -> None:
    """As on a volume of a pod: nothing but their distributions tells them from modules of the author."""
    (tmp_path / "packages").symlink_to(sysconfig.get_path("purelib"))
    program = (
        "from mlops_assets.ml.class_source import class_source as f; print(f(['sklearn.linear_model.Ridge']).json())"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env={"PYTHONPATH": f"{PROJECT}:{tmp_path / 'packages'}"},
    )
    told = json.loads(found.stdout)
    assert list(told["files"]) == ["sklearn.linear_model._ridge"]
    assert told["libraries"]["sklearn"]


@pytest.mark.parametrize(
    ("paths", "needed"),
    [
        (["nets.Plain"], True),
        (["nets.forest.Tall"], False),
        (["nets.mixed.OnEmbeddings"], True),
        (["nets.mean.Mean"], False),
        (["sklearn.ensemble.VotingClassifier", "nets.forest.Forest"], False),
        (["sklearn.ensemble.VotingClassifier", "nets.mixed.OnEmbeddings"], True),
        (["nets.late.Net"], True),
    ],
    ids=str,
)
@pytest.mark.parametrize("installed", [True, False])
def test_torch_is_needed_where_the_author_uses_it_whether_it_is_installed_or_not(
    nets: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], needed: bool, installed: bool
) -> None:
    if not installed:
        find_module = module.find_module
        monkeypatch.setattr(module, "find_module", lambda name: None if name.startswith("torch") else find_module(name))
    assert needs_torch(paths) is needed
