"""A feature that gives the target away is found, and a good one is not, however rare a class is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.data.contract import NamedColumn, Target
from mlops_assets.ml.features.feature_set import FeaturePlan
from mlops_assets.ml.features.leakage import Leakage, LeakageRule, find_leakage
from tests.preparation import prepare_and_build_features
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Task

RULE = LeakageRule()
LEAKS = {
    "the target itself": lambda frame: frame.low,
    "the target scaled": lambda frame: frame.low * 7 - 3,
    "a threshold away": lambda frame: frame.low * 5 + np.random.default_rng(0).uniform(0, 1, len(frame)),
}


def leaks(folder: Path, frame: pd.DataFrame, task: Task, rule: LeakageRule = RULE) -> tuple[str, ...]:
    """What is said about prepared train rows with the target y; text columns are categories."""
    frame.to_parquet(folder / "train.parquet")
    use = tuple(
        NamedColumn(name=name, type="category" if frame[name].dtype == object else "number")
        for name in frame.columns
        if name != "y"
    )
    classes = None if task == "regression" else tuple(range(int(frame.y.max()) + 1))
    plan = FeaturePlan(use=use, target=Target(column="y"), task=task, classes=classes, validation_rows=1)
    return find_leakage(folder, plan).leaks(rule)


def rare(rows: int, positives: int) -> pd.DataFrame:
    """Noise, and a target that is 1 in some rows."""
    generator = np.random.default_rng(0)
    y = np.zeros(rows, dtype=np.int64)
    y[generator.choice(rows, positives, replace=False)] = 1
    noise = {name: generator.normal(size=rows) for name in ("a", "b", "c")}
    return pd.DataFrame({**noise, "kind": generator.choice(["x", "y", "z"], rows), "y": y})


@pytest.mark.parametrize("made", LEAKS.values(), ids=LEAKS)
def test_a_feature_that_gives_the_target_away_is_found(tmp_path: Path, made: Any) -> None:
    frame = weather(1_000)
    frame = frame.assign(low=frame.rain.astype(float)).drop(columns="rain")
    frame["humidity"] = made(frame)
    out, plan = prepare_and_build_features(tmp_path, frame, "binary_classification", Target(column="low"))
    [leak] = find_leakage(out, plan).leaks(RULE)
    assert leak.startswith("humidity alone gets 100.00% of the way")
    assert "Remove it from features.use, or name it in features.leakage.allow" in leak


def test_a_good_feature_is_no_leak(tmp_path: Path) -> None:
    frame = weather(1_000)
    frame = frame.assign(low=frame.rain.astype(float)).drop(columns="rain")
    out, plan = prepare_and_build_features(tmp_path, frame, "binary_classification", Target(column="low"))
    found = find_leakage(out, plan)
    assert found.leaks(RULE) == ()
    assert 0.2 < found.scores["pressure"] < 0.9


@pytest.mark.parametrize(("rows", "positives"), [(200_000, 60), (200_000, 5), (150_000, 15), (3_000, 3), (400, 1)])
def test_noise_about_a_rare_event_is_no_leak(tmp_path: Path, rows: int, positives: int) -> None:
    assert leaks(tmp_path, rare(rows, positives), "binary_classification") == ()


@pytest.mark.parametrize(("rows", "positives"), [(200_000, 60), (150_000, 15), (250_000, 10)])
def test_a_copy_of_a_rare_event_is_a_leak(tmp_path: Path, rows: int, positives: int) -> None:
    frame = rare(rows, positives)
    frame["copy"] = 5 - 3.0 * frame.y
    frame["code"] = np.where(frame.y == 1, "case", "none").astype(object)
    found = leaks(tmp_path, frame, "binary_classification")
    assert [leak.split()[0] for leak in found] == ["copy", "code"]


def test_a_copy_is_found_among_many_classes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    y = generator.choice(20, 5_000, p=np.r_[0.9, np.full(19, 0.1 / 19)])
    frame = pd.DataFrame({"copy": y * 2.0, "half": y // 2 * 1.0, "noise": generator.normal(size=5_000), "y": y})
    assert [leak.split()[0] for leak in leaks(tmp_path, frame, "multiclass_classification")] == ["copy"]


@pytest.mark.parametrize("tail", [1, 6])
def test_a_copy_of_a_number_is_found_whatever_its_distribution(tmp_path: Path, tail: int) -> None:
    generator = np.random.default_rng(0)
    y = np.exp(tail * generator.normal(size=5_000))
    frame = pd.DataFrame({"copy": np.log(y), "near": np.log(y) + generator.normal(0, 0.3, 5_000), "y": y})
    assert [leak.split()[0] for leak in leaks(tmp_path, frame, "regression")] == ["copy"]


@pytest.mark.parametrize("rows", [60, 120, 400, 700])
@pytest.mark.parametrize("made", [lambda y: y, np.exp, lambda y: 3 - y / 7], ids=["copy", "exp", "scaled"])
def test_a_copy_of_a_number_is_found_in_a_small_table(tmp_path: Path, rows: int, made: Any) -> None:
    generator = np.random.default_rng(rows)
    y = generator.normal(size=rows)
    frame = pd.DataFrame({"a": made(y), "good": y + generator.normal(0, 0.2, rows), "y": y})
    [leak] = leaks(tmp_path, frame, "regression")
    assert leak.startswith("a alone")


def test_that_a_value_is_missing_gives_the_target_away_too(tmp_path: Path) -> None:
    frame = rare(600, 200)
    frame["paid_back"] = np.where(frame.y == 1, np.nan, frame.a)
    [leak] = leaks(tmp_path, frame, "binary_classification")
    assert leak.startswith("paid_back alone")


def test_where_the_target_hardly_varies_nothing_is_said(tmp_path: Path) -> None:
    y = np.zeros(60)
    y[7] = 1
    assert leaks(tmp_path, pd.DataFrame({"a": np.random.default_rng(0).normal(size=60), "y": y}), "regression") == ()


def test_the_rule_of_the_yaml_decides() -> None:
    found = Leakage(scores={"a": 0.97, "b": 1.0})
    assert [leak.split()[0] for leak in found.leaks(RULE)] == ["b"]
    assert [leak.split()[0] for leak in found.leaks(LeakageRule(threshold=0.9))] == ["a", "b"]
    assert found.leaks(LeakageRule(allow=("b",))) == ()
