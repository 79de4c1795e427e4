"""online_features: what is new comes into the online store, and a store that differs from the join is told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_assets.assets.online_features import fresh_check, skew_check
from tests.stored_views import model, put_wind

if TYPE_CHECKING:
    import dagster as dg

    from tests.support import Platform

STAGES = ("feature_views", "online_features")


def checked(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """The checks of a run and whether they passed."""
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def written(platform: Platform) -> Any:
    """How many entities of the view a run of both stages wrote, whose checks passed but for freshness."""
    result = platform.materialize(*STAGES, model=model(platform))
    assert result.success
    assert checked(result) == {"skew": True, "fresh": False}
    [event] = result.asset_materializations_for_node(f"{platform.model}__online_features")
    return event.metadata["written_wind"].value


def online_of(platform: Platform) -> Any:
    """The model's views in the platform's online store."""
    return platform.online_store.of(platform.model)


def test_only_what_is_new_is_written_and_it_is_looked_up(stored_platform: Platform) -> None:
    platform = stored_platform
    assert [written(platform), written(platform)] == [1, 0]
    put_wind(platform, hours=100, station="Genf")
    assert written(platform) == 1
    online = online_of(platform)
    found = online.read("wind", [{"place": place} for place in ("Bern", "Genf", "Rom")])
    assert [known.values for known in found] == [{"speed": 19.9}, {"speed": 9.9}, {}]
    assert found[0].at == datetime(2026, 3, 9, 7)


def test_a_store_that_was_changed_fails_and_is_written_again_the_next_time(stored_platform: Platform) -> None:
    platform = stored_platform
    assert written(platform) == 1
    wrong = {"place": "Bern", "event_timestamp": datetime(2026, 3, 9, 7), "speed": 7.0}
    online_of(platform).write("wind", [wrong])
    result = platform.materialize(*STAGES, model=model(platform))
    assert checked(result)["skew"] is False
    [told] = [found for found in result.get_asset_check_evaluations() if found.check_name == "skew"]
    assert "wind.speed of Bern is 7.0 online, and 19.9 in training. Somebody else" in (told.description or "")
    assert written(platform) == 1


def test_many_differences_are_told_in_a_few(stored_platform: Platform) -> None:
    assert skew_check([]).passed
    told = skew_check([f"d{n}" for n in range(5)])
    assert "d0; d1; d2 and 2 more" in (told.description or "")
    old = fresh_check(model(stored_platform), {"wind": timedelta(hours=4)})
    assert "wind: the newest value is 4:00:00 old, and 3:00:00 is its max_age" in (old.description or "")
    assert fresh_check(model(stored_platform), {"wind": timedelta(hours=3)}).passed
