"""The reference profile: small, and what the columns and the answers were like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.inference.artifact import GoldenRows, InputColumn, ModelSignature
from mlops_assets.ml.monitoring.column_profile import MAX_CATEGORIES, CategoryProfile, NumberProfile
from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile, reference_profile, score_of
from tests.preparation import prepare_frames
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path


def signature(names: dict[str, str], classes: tuple[Any, ...] | None) -> ModelSignature:
    inputs = tuple(InputColumn.model_validate({"name": name, "dtype": dtype}) for name, dtype in names.items())
    task = "regression" if classes is None else "binary_classification"
    golden = GoldenRows(rows=(), outputs={})
    return ModelSignature(model="weather", task=task, inputs=inputs, classes=classes, sha256="s", golden=golden)


WEATHER = signature({"place": "string", "pressure": "float32", "humidity": "float32"}, (False, True))


def test_it_has_the_train_parts_columns_and_the_answers_to_the_test_part(tmp_path: Path) -> None:
    prepare_frames(tmp_path, [weather(3_000)])
    train = pd.read_parquet(tmp_path / "out" / "train.parquet")
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)
    made = reference_profile(tmp_path / "out", WEATHER, scores, {"place": 0.5}, {"roc_auc": 0.8})
    made.write(tmp_path)
    found = ReferenceProfile.read(tmp_path)
    assert found == made
    place, pressure, humidity = found.features.values()
    assert isinstance(place, CategoryProfile)
    assert dict(zip(place.names, place.counts, strict=True)) == train.place.value_counts().to_dict()
    assert isinstance(pressure, NumberProfile)
    assert pressure.std == pytest.approx(train.pressure.astype(np.float32).astype(float).std(ddof=0), rel=1e-5)
    assert np.float32([pressure.edges[0], pressure.edges[-1]]).tolist() == [
        np.float32(train.pressure.min()),
        np.float32(train.pressure.max()),
    ]
    assert (humidity.rows, humidity.missing) == (train.humidity.notna().sum(), train.humidity.isna().sum())
    label, score = found.predictions["label"], found.predictions["score"]
    assert isinstance(label, CategoryProfile)
    assert dict(zip(label.names, label.counts, strict=True)) == {"0": 1, "1": 2}
    assert isinstance(score, NumberProfile)
    assert score.edges == (0.1, 0.6, 0.8)


def test_it_is_small_whatever_the_rows_and_columns(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(20_000, 60)), columns=[f"n{index}" for index in range(60)])
    texts = {f"t{index}": generator.integers(0, 10**9, 20_000).astype(str) for index in range(2)}
    frame.assign(**texts).to_parquet(tmp_path / "train.parquet")
    wide = signature(dict.fromkeys(frame, "float32") | dict.fromkeys(texts, "string"), None)
    made = reference_profile(tmp_path, wide, generator.normal(size=20_000), {}, {})
    made.write(tmp_path)
    assert (tmp_path / ReferenceProfile.FILE).stat().st_size < 512 << 10
    text = made.features["t0"]
    assert isinstance(text, CategoryProfile)
    assert (len(text.names), text.rows) == (MAX_CATEGORIES, 20_000)
    assert text.rest == 20_000 - sum(text.counts)


def test_of_several_classes_the_score_is_that_of_the_most_probable_one() -> None:
    assert score_of(np.array([[0.25, 0.75]])).tolist() == [0.75]
    assert score_of(np.array([[0.5, 0.25, 0.25]])).tolist() == [0.5]
