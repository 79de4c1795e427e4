"""The preprocessing as a graph answers as scikit-learn does."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.data.contract import NamedColumn
from mlops_assets.ml.features.preprocessing import FEATURES, fit_preprocessing, preprocessing_to_onnx

USED = (
    NamedColumn(name="place", type="category", nullable=True),
    NamedColumn(name="pressure", type="number"),
    NamedColumn(name="humidity", type="number", nullable=True),
)
# A text with a NUL character is refused before (classes.check_spelling)
texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["Bern", "Zürich", "", "東京", "a b"]),
)
numbers = st.floats(-1e6, 1e6, width=32)


@example(known=[("", 0.0, np.nan), ("", 0.0, np.nan), ("", 1.4e-45, np.nan)], new=[("", 0.0, np.nan)])
@settings(max_examples=25)
@given(
    known=st.lists(st.tuples(texts, numbers, st.one_of(st.just(np.nan), numbers)), min_size=3, max_size=30),
    new=st.lists(st.tuples(texts, numbers, st.one_of(st.just(np.nan), numbers)), min_size=1, max_size=20),
)
def test_the_preprocessing_graph_equals_scikit_learn(known: list[Any], new: list[Any]) -> None:
    names = [column.name for column in USED]
    sample = pd.DataFrame(known, columns=names).astype({"pressure": "float32", "humidity": "float32"})
    rows = pd.DataFrame(new, columns=names).astype({"pressure": "float32", "humidity": "float32"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column without any value
        transformer = fit_preprocessing(sample, USED, {"place": sorted({text for text, *_ in known if text}) or [""]})
        wanted = np.asarray(transformer.transform(rows.set_axis(["c0", "c1", "c2"], axis=1)), dtype=np.float64)
    session = onnxruntime.InferenceSession(preprocessing_to_onnx(transformer, USED).SerializeToString())
    arrays = {
        "place": rows.place.to_numpy(dtype=object).reshape(-1, 1),
        "pressure": rows.pressure.to_numpy().reshape(-1, 1),
        "humidity": rows.humidity.to_numpy().reshape(-1, 1),
    }
    [found] = session.run([FEATURES], arrays)
    scale = np.maximum(1.0, np.abs(wanted))
    assert np.max(np.abs(found - wanted) / scale) < 1e-4
