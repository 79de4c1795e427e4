"""feature_views: the rows of the views are pinned, and prepared rows get from them what was known at their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlops_assets.assets.handles import FeatureViews, PreparedData
from tests.stored_views import HOUR, handle, model, put_wind

if TYPE_CHECKING:
    from tests.support import Platform

STAGES = ("feature_views", "raw_data", "prepared_data", "features")


def test_prepared_rows_have_what_was_known_at_their_time(stored_platform: Platform) -> None:
    platform = stored_platform
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


def test_values_that_are_new_in_the_store_are_prepared_again_and_the_same_ones_are_not(
    stored_platform: Platform,
) -> None:
    platform, versions = stored_platform, list[str]()
    for hours in (200, 200, 201):
        put_wind(platform, hours)
        assert platform.materialize(*STAGES, model=model(platform)).success
        versions.append(handle(platform, "prepared_data", PreparedData).version)
    assert versions[0] == versions[1] != versions[2]


def test_an_age_that_lets_nothing_count_is_told(stored_platform: Platform) -> None:
    platform = stored_platform
    result = platform.materialize(*STAGES[:3], model=model(platform, max_age="10m"))
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert "Column speed has no value in any of 200 rows" in str(event.event_specific_data)


def test_a_model_whose_view_has_no_objects_fails_in_one_sentence(stored_platform: Platform) -> None:
    platform = stored_platform
    result = platform.materialize("feature_views", model=model(platform, source__uri="breeze/*.parquet"))
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert "There are no objects at breeze/*.parquet; put data there" in str(event.event_specific_data)
