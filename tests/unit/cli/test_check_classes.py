"""What a YAML names by import path: classes, their params, example functions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.cli.check_classes import example_problems, training_problems
from mlops_assets.ml.training.training_config import TrainingConfig

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Task

MLP = "mlops_assets.ml.networks.MLP"
VOTING = "sklearn.ensemble.VotingClassifier"
CLASSES: Task = "multiclass_classification"


def problems(network: str, task: Task = CLASSES, **params: Any) -> list[tuple[str, str]]:
    found = training_problems(TrainingConfig(network=network, params=params), task)
    return [(".".join(map(str, path)), message) for path, message in found]


def test_params_that_fit_are_no_problem() -> None:
    assert problems(MLP, hidden=[8], dropout=0.1) == []
    assert problems("sklearn.linear_model.LogisticRegression", max_iter=100) == []
    inner = {"class": "sklearn.linear_model.LogisticRegression", "params": {"C": 2}}
    assert problems(VOTING, estimators=[["a", inner]], voting="soft") == []


@pytest.mark.parametrize(
    ("network", "params", "field", "message"),
    [
        ("sklearn.linear_model.LogisticRegresion", {}, "network", "did you mean LogisticRegression?"),
        ("mlops_assets.ml.networks.MPL", {}, "network", "has no MPL (did you mean MLP?)"),
        ("mlops_assets.datasets.iris", {}, "network", "is no class"),
        ("sklearn.preprocessing.StandardScaler", {}, "network", "has no predict_proba, and multiclass"),
        ("sklearn.linear_model.Ridge", {}, "network", "has no predict_proba, and multiclass"),
        (MLP, {"hiden": [8]}, "params.hiden", "has no such parameter (did you mean hidden?); it takes hidden, dropout"),
        (MLP, {"inputs": 3}, "params.inputs", "comes from the data"),
        ("sklearn.linear_model.LogisticRegression", {"maxiter": 3}, "params.maxiter", "did you mean max_iter?"),
        (VOTING, {}, "params", "needs estimators; add it"),
        (VOTING, {"estimators": [["a", {"class": "sklearn.svm.SVCC"}]]}, "params.estimators.0.1.class", "has no SVCC"),
        (
            VOTING,
            {"estimators": [["a", {"class": "sklearn.svm.SVC", "params": {"D": 1}}]]},
            "params.estimators.0.1.params.D",
            "SVC has no such parameter",
        ),
    ],
)
def test_what_does_not_fit_is_told_at_its_field(network: str, params: Any, field: str, message: str) -> None:
    [(where, said)] = problems(network, **params)
    assert where == field
    assert message in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "import no_such_package",
            "own_network cannot be imported (ModuleNotFoundError: No module named 'no_such_pack",
        ),
        ("x = 1\n1 / 0", "own_network cannot be imported (ZeroDivisionError: division by zero, own_network.py:2)"),
        ("def f(:", "own_network cannot be imported (SyntaxError: invalid syntax, own_network.py:1)"),
        (
            "import torch\nclass Network(torch.nn.Module):\n    def __init__(self, width): super().__init__()",
            "Network does not take inputs; let its constructor take inputs and outputs",
        ),
    ],
)
def test_a_module_of_ones_own_that_does_not_work_is_told_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    (tmp_path / "own_network.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_network", raising=False)
    assert any(message in said for _, said in problems("own_network.Network"))


def test_where_torch_is_not_installed_a_network_cannot_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch" or name == MLP.rpartition(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    [(where, said)] = problems(MLP)
    assert where == "network"
    assert "mlops_assets.ml.networks needs torch, which is not installed here; check it where torch is" in said
    assert problems("sklearn.linear_model.LogisticRegression") == []


def test_an_example_is_a_function_that_exists() -> None:
    assert list(example_problems("mlops_assets.datasets.iris")) == []
    assert list(example_problems(None)) == []
    [unknown] = example_problems("mlops_assets.datasets.irs")
    assert "has no irs (did you mean iris?)" in unknown
    [no_function] = example_problems("mlops_assets.datasets.annotations")
    assert "is no function" in no_function
