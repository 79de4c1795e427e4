"""The rows of `tests.support.weather` on their way to features, without the platform around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from mlops_assets.ml.data.contract import NamedColumn, Prepare, Target
from mlops_assets.ml.data.preparation import Preparation, PreparationPlan
from mlops_assets.ml.data.prepare import prepare
from mlops_assets.ml.features.feature_set import FeaturePlan, build_features

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Task


COLUMNS = (
    NamedColumn(name="place", type="category"),
    NamedColumn(name="pressure", type="number", min=900, max=1100),
    NamedColumn(name="humidity", type="number", nullable=True),
    NamedColumn(name="rain", type="boolean"),
)
PLAN = PreparationPlan(
    columns=COLUMNS, target=Target(column="rain"), task="binary_classification", prepare=Prepare(), event_time=None
)


def plan(**changed: Any) -> PreparationPlan:
    """How the weather's rows are prepared, with fields changed."""
    return PLAN.model_copy(update=changed)


def prepare_frames(
    folder: Path, frames: list[pd.DataFrame], used: PreparationPlan = PLAN, suffix: str = "parquet"
) -> Preparation:
    """Write each frame as a source file and prepare them; the parts lie in `folder`/out."""
    paths = []
    for index, frame in enumerate(frames):
        path = folder / f"{index}.{suffix}"
        frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
        paths.append(path)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return prepare(paths, out, used)


def part(folder: Path, name: str) -> pd.DataFrame:
    """The prepared rows of `train` or `test`."""
    return pd.read_parquet(folder / "out" / f"{name}.parquet")


TARGETS = {
    "regression": Target(column="score", from_="pressure * 3 + coalesce(humidity, 50)"),
    "binary_classification": Target(column="low", from_="pressure + humidity / 10 < 1018"),
    "multiclass_classification": Target(
        column="band", from_="CASE WHEN pressure < 1005 THEN 'low' WHEN pressure < 1020 THEN 'mid' ELSE 'high' END"
    ),
}


def prepare_and_build_features(
    folder: Path, frame: pd.DataFrame, task: Task, target: Target
) -> tuple[Path, FeaturePlan]:
    """Prepare the frame, and build its features in `folder`/features; the folder of the rows, and the plan."""
    kinds = {"place": "category", "pressure": "number", "humidity": "number"}
    columns = [
        NamedColumn(name=name, type=kinds.get(name, "number"), nullable=name == "humidity") for name in frame.columns
    ]  # pyright: ignore[reportArgumentType]
    source = folder / "source.parquet"
    frame.to_parquet(source)
    out = folder / "prepared"
    out.mkdir()
    report = prepare(
        [source],
        out,
        PreparationPlan(columns=tuple(columns), target=target, task=task, prepare=Prepare(), event_time=None),
    )
    used = tuple(column for column in columns if column.name in kinds)
    plan = FeaturePlan(
        use=used, target=target, task=task, classes=report.classes, validation_rows=report.validation_rows
    )
    features = folder / "features"
    features.mkdir()
    build_features(out, features, plan)
    return out, plan
