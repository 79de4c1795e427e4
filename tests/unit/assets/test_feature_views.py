"""feature_views: the rows of the views are pinned, and prepared rows get from them what was known at their time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.assets.handles import FeatureViews, PreparedData, handle_key
from mlops_assets.spec.load_spec import load_spec
from tests.stored_views import stored
from tests.support import Platform, weather

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.spec.model_spec import ModelSpec

STAGES = ("feature_views", "raw_data", "prepared_data", "features")
HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def platform(tmp_path: Path, mlflow_uri: str) -> Platform:
    """Rows of the weather, half an hour after each hour, and wind that was measured at each hour in Bern alone."""
    made = Platform(tmp_path, mlflow_uri)
    rows = weather(200)
    made.put(rows.assign(time=[pd.Timestamp("2026-03-01") + (n + 0.5) * HOUR for n in range(200)]))
    put_wind(made, hours=200)
    return made


def put_wind(platform: Platform, hours: int) -> None:
    """Write a source of the view, whose speed is the number of its hour."""
    times = [pd.Timestamp("2026-03-01") + n * HOUR for n in range(hours)]
    file = platform.home / "wind.parquet"
    pd.DataFrame({"station": "Bern", "measured_at": times, "speed": np.arange(hours) / 10}).to_parquet(file)
    platform.lake.store.upload(file, "wind/wind.parquet")


def model(platform: Platform, **changed: Any) -> ModelSpec:
    """A model of the platform with the view `wind`, whose missing values are empty."""
    return load_spec(stored(missing="null", **changed) | {"model": platform.model}, None, "defs.yaml")


def handle(platform: Platform, stage: str, kind: type[Any]) -> Any:
    """The newest handle of a stage."""
    content = platform.lake.store.read(handle_key(f"{platform.model}/{stage}"))
    assert content is not None
    return kind.model_validate_json(content)


def test_prepared_rows_have_what_was_known_at_their_time(platform: Platform) -> None:
    result = platform.materialize(*STAGES, model=model(platform))
    assert result.success
    made, prepared = (
        handle(platform, *of) for of in (("feature_views", FeatureViews), ("prepared_data", PreparedData))
    )
    assert prepared.lineage.versions["feature_views"] == made.version
    rows = pd.read_parquet(platform.lake.fetch(prepared.prefix, prepared.version) / "train.parquet")
    bern = rows.place == "Bern"
    known = (rows.time.dt.floor("h") - pd.Timestamp("2026-03-01")) / HOUR / 10
    np.testing.assert_allclose(rows.speed[bern], known[bern])
    assert rows.speed[~bern].isna().all()


def test_values_that_are_new_in_the_store_are_prepared_again_and_the_same_ones_are_not(platform: Platform) -> None:
    versions = list[str]()
    for hours in (200, 200, 201):
        put_wind(platform, hours)
        assert platform.materialize(*STAGES, model=model(platform)).success
        versions.append(handle(platform, "prepared_data", PreparedData).version)
    assert versions[0] == versions[1] != versions[2]


def test_an_age_that_lets_nothing_count_is_told(platform: Platform) -> None:
    result = platform.materialize(*STAGES[:3], model=model(platform, max_age="10m"))
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert "Column speed has no value in any of 200 rows" in str(event.event_specific_data)


def test_a_model_whose_view_has_no_objects_fails_in_one_sentence(platform: Platform) -> None:
    result = platform.materialize("feature_views", model=model(platform, source__uri="breeze/*.parquet"))
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert "There are no objects at breeze/*.parquet; put data there" in str(event.event_specific_data)
