"""Models of public reports (shared/reviews/field, 09 to 32): served, or refused in one sentence before the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.whole_life import live, refusal

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = "tests.user_networks."
BAYES = {"class": "sklearn.naive_bayes.GaussianNB"}
TORCH = {"epochs": 8, "batch_size": 64, "learning_rate": 0.01}
SERVED: dict[str, dict[str, Any]] = {
    **{
        f"forest of {trees} trees": {
            "network": "sklearn.ensemble.RandomForestClassifier",
            "params": {"n_estimators": trees, "class_weight": "balanced"},
        }
        for trees in (10, 20, 50)
    },
    "batch norm with one row left": {"network": f"{NETWORK}Normed", **TORCH, "batch_size": 41},
    "tied weights": {"network": f"{NETWORK}Tied", **TORCH},
    "lazy layers": {"network": f"{NETWORK}Lazy", **TORCH},
    "support vectors": {"network": "sklearn.svm.SVC", "params": {"probability": True}},
    "support vectors by share": {"network": "sklearn.svm.NuSVC", "params": {"probability": True, "nu": 0.3}},
    "voting": {
        "network": "sklearn.ensemble.VotingClassifier",
        "params": {"estimators": [["a", BAYES]], "voting": "soft"},
    },
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gaussian process": (
        {"network": "sklearn.gaussian_process.GaussianProcessClassifier"},
        "GaussianProcessClassifier has no ONNX form",
    ),
    "label propagation": ({"network": "sklearn.semi_supervised.LabelPropagation"}, "has no ONNX form"),
    "dummy": ({"network": "sklearn.dummy.DummyClassifier"}, "has no ONNX form"),
    "flat output": ({"network": f"{NETWORK}Flat", **TORCH}, "gives (8,), wanted (8, 1)"),
    "branching": ({"network": f"{NETWORK}Branching", **TORCH}, "Branching has no ONNX form"),
}


def attributes(folder: Path, train: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The YAML of the reports' models, with its source written."""
    generator, rows = np.random.default_rng(3), 400
    frame = pd.DataFrame(
        {
            "shop": generator.choice(["north", "south", "east"], rows),
            "weight": generator.normal(50, 10, rows).round(2),
            "pieces": generator.integers(1, 9, rows),
        }
    )
    noise = generator.normal(0, 6, rows)
    frame["late"] = (frame.weight + 4 * frame.pieces + 6 * (frame["shop"] == "east") + noise > 70).astype(int)
    frame["sales"] = np.where(frame["shop"] == "north", 0.0, frame.weight * 3 + frame.pieces * 5 + noise).round(2)
    frame["late_elsewhere"] = frame.late * (frame["shop"] != "north")
    (folder / "lake/reported").mkdir(parents=True)
    frame.to_csv(folder / "lake/reported/a.csv", index=False)
    numbers = {name: {"type": "number"} for name in ("weight", "pieces", "sales")}
    return {
        "model": "reported",
        "task": "binary_classification",
        "source": {"uri": "reported/*.csv"},
        "target": {"column": "late"},
        "columns": {
            "shop": {"type": "category"},
            **numbers,
            "late": {"type": "boolean"},
            "late_elsewhere": {"type": "boolean"},
        },
        "features": {"use": ["shop", "weight", "pieces"]},
        "train": train,
        "gate": {"metric": "accuracy", "at_least": 0.4},
    } | changed


@pytest.mark.parametrize("train", SERVED.values(), ids=SERVED)
def test_it_is_served_as_it_was_judged(tmp_path: Path, train: dict[str, Any]) -> None:
    assert live(attributes(tmp_path, train), tmp_path).metrics["accuracy"] > 0.5


@pytest.mark.parametrize(("train", "message"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_the_reason(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    told = refusal(attributes(tmp_path, train), tmp_path)
    assert told is not None
    assert message in told
    assert told.startswith("train.network: ")
    assert "\n" not in told


def test_a_slice_with_a_constant_target_is_judged(tmp_path: Path) -> None:
    train = {"network": "sklearn.linear_model.Ridge"}
    gate = {"metric": "rmse", "at_most": 1e9, "slices": ["shop"]}
    given = attributes(tmp_path, train, task="regression", target={"column": "sales"}, gate=gate)
    assert live(given, tmp_path).metrics["r2"] > 0


def test_a_slice_with_one_class_is_judged(tmp_path: Path) -> None:
    train = {"network": "sklearn.linear_model.LogisticRegression"}
    gate = {"metric": "accuracy", "at_least": 0.4, "slices": ["shop"]}
    given = attributes(tmp_path, train, target={"column": "late_elsewhere"}, gate=gate)
    assert live(given, tmp_path).metrics["accuracy"] > 0.5
