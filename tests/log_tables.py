"""Tables of the inference log, as `compact` writes them, for answers of a model of the weather."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.ml.inference.artifact import GoldenRows, InputColumn, ModelSignature
from mlops_assets.ml.monitoring.compact_log import TABLE
from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile, reference_profile
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

LABEL_DELAY = timedelta(hours=2)
NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)
IMPORTANCE = {"place": 0.0, "pressure": 0.3, "humidity": 0.1}
WEATHER = ModelSignature(
    model="weather",
    task="binary_classification",
    inputs=(
        InputColumn(name="place", dtype="string"),
        InputColumn(name="pressure", dtype="float32"),
        InputColumn(name="humidity", dtype="float32", nullable=True),
    ),
    classes=(False, True),
    sha256="s",
    golden=GoldenRows(rows=(), outputs={}),
)


def probabilities(rows: pd.DataFrame) -> Any:
    """What the model answers: the lower the pressure, the more probable is rain."""
    rain = 1 / (1 + np.exp((rows["pressure"] - 1013) / 5))
    return np.column_stack([1 - rain, rain]).astype(np.float32)


def weather_reference(folder: Path, rows: int = 4_000, **changed: Any) -> ReferenceProfile:
    """The reference profile of so many rows of weather."""
    frame = weather(rows)
    frame.to_parquet(folder / "train.parquet")
    given: dict[str, Any] = {"importance": IMPORTANCE, "metrics": {"accuracy": 0.8}}
    return reference_profile(folder, WEATHER, probabilities(frame), **given | changed)


def log_table(folder: Path, rows: pd.DataFrame, labels: int = 0, **changed: Any) -> Path:
    """The table of a day on which these rows were asked, of which the first `labels` have their label."""
    answers, count = probabilities(rows), len(rows)
    columns: dict[str, Any] = {
        "request_id": [f"r{index}" for index in range(count)],
        "row": pa.array(np.zeros(count, np.int32)),
        "time": pa.array(pd.Series([NOON] * count) + pd.to_timedelta(np.arange(count), unit="s")),
        "version": ["1"] * count,
        "role": ["champion"] * count,
        "input:place": pa.array(rows["place"].tolist(), pa.string()),
        "input:pressure": pa.array(rows["pressure"], pa.float32()),
        "input:humidity": pa.array(rows["humidity"], pa.float32(), from_pandas=True),
        "output:label": [str(label) for label in answers.argmax(axis=1)],
        "output:probabilities": pa.array(list(answers), pa.list_(pa.float32())),
        "label_time": pa.array(pd.Series([NOON + LABEL_DELAY] * count) + pd.to_timedelta(np.arange(count), unit="s")),
        "label": pa.array([str(int(rain)) if i < labels else None for i, rain in enumerate(rows["rain"])], pa.string()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: values for name, values in (columns | changed).items() if values is not None}
    pq.write_table(pa.table(kept), folder / TABLE)
    return folder / TABLE
