"""A feature that gives the target away is found, and a good one is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.data.contract import Target
from mlops_assets.ml.features.leakage import find_leakage
from tests.preparation import prepare_and_build_features
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

LEAKS = {
    "the target itself": lambda frame: frame.low,
    "the target scaled": lambda frame: frame.low * 7 - 3,
    "a threshold away": lambda frame: frame.low * 5 + np.random.default_rng(0).uniform(0, 1, len(frame)),
}


@pytest.mark.parametrize("made", LEAKS.values(), ids=LEAKS)
def test_a_feature_that_gives_the_target_away_is_found(tmp_path: Path, made: Any) -> None:
    frame = weather(1_000)
    frame = frame.assign(low=frame.rain.astype(float)).drop(columns="rain")
    frame["humidity"] = made(frame)
    out, plan = prepare_and_build_features(tmp_path, frame, "binary_classification", Target(column="low"))
    [leak] = find_leakage(out, plan).leaks
    assert leak.feature == "humidity"
    assert "Remove it from features.use" in leak.message


def test_a_good_feature_is_no_leak(tmp_path: Path) -> None:
    frame = weather(1_000)
    frame = frame.assign(low=frame.rain.astype(float)).drop(columns="rain")
    out, plan = prepare_and_build_features(tmp_path, frame, "binary_classification", Target(column="low"))
    assert find_leakage(out, plan).leaks == ()
