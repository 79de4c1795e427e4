"""Feature views: which values count for a row, and what columns rows get of a view."""

from __future__ import annotations

from datetime import datetime, timedelta

from mlops_assets.ml.data.feature_view import FeatureView

AT = datetime(2026, 3, 1, 12)


def view(missing: str | None) -> FeatureView:
    """A view whose values count for three hours."""
    default = {"default": 1} if missing == "default" else {}
    features = {"speed": {"type": "number", "max": 200, **default}}
    return FeatureView.model_validate(
        {"entity": {"place": "station"}, "features": features, "max_age": "3h", "missing": missing}
    )


def test_a_value_counts_from_when_it_is_known_until_it_is_too_old() -> None:
    known = [timedelta(hours=hours) for hours in (3.01, 3, 0, -0.01)]
    assert [view("refuse").counts(AT - age, AT) for age in known] == [False, True, True, False]
    assert not view("refuse").counts(None, AT)


def test_only_a_feature_that_may_be_empty_is_nullable() -> None:
    found = {missing: view(missing).columns[0] for missing in ("refuse", "null", "default", None)}
    assert {missing: column.nullable for missing, column in found.items()} == {
        "refuse": False,
        "null": True,
        "default": False,
        None: True,  # YAML's null is meant as the word
    }
    assert (found["null"].name, found["null"].type, found["null"].max) == ("speed", "number", 200)
