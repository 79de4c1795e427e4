"""The arrays a model learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.features.feature_set import FeatureSet, build_features, load_arrays
from tests.preparation import TARGETS, prepare_and_build_features
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path


def test_the_arrays_hold_what_the_preprocessing_gives(tmp_path: Path) -> None:
    out, _ = prepare_and_build_features(
        tmp_path, weather(600).drop(columns="rain"), "regression", TARGETS["regression"]
    )
    made = FeatureSet.model_validate_json((tmp_path / "features/features.json").read_bytes())
    x, y = load_arrays(tmp_path / "features", "train")
    rows = pd.read_parquet(out / "train.parquet")
    assert x.shape == (made.train_rows, len(made.feature_names))
    assert x.dtype == np.float32
    np.testing.assert_allclose(y, rows.score)
    np.testing.assert_allclose(x[:, made.feature_names.index("place_Bern")], rows.place == "Bern")
    pressure = x[:, made.feature_names.index("pressure")]
    assert abs(float(pressure.mean())) < 1e-3
    assert float(pressure.std()) == pytest.approx(1, abs=1e-3)


def test_statistics_come_from_the_train_part_alone(tmp_path: Path) -> None:
    out, plan = prepare_and_build_features(
        tmp_path, weather(600).drop(columns="rain"), "regression", TARGETS["regression"]
    )
    before = (tmp_path / "features/preprocessing.onnx").read_bytes()
    test = pd.read_parquet(out / "test.parquet")
    test.assign(pressure=test.pressure * 1000).to_parquet(out / "test.parquet")
    again = tmp_path / "again"
    again.mkdir()
    build_features(out, again, plan)
    assert (again / "preprocessing.onnx").read_bytes() == before
