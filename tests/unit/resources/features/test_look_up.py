"""The look-up: rows of a request get what is known at their time, and what is missing gets what the view says."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.data.feature_view import FeatureView
from mlops_assets.ml.errors import BadRequest
from resources.features.look_up import with_features
from resources.features.online_store import NOTHING, Known

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOW = datetime(2026, 3, 1, 12)
STORE = {
    "Bern": Known(NOW.replace(hour=11), {"speed": 3.5, "sky": "grey"}),
    "Genf": Known(NOW.replace(hour=8), {"speed": 1.0, "sky": "clear"}),
    "Rom": Known(NOW, {"sky": "clear"}),
}


def looked_up(content: Any, missing: str = "null") -> Any:
    """The request with wind and sky of its places, which count for three hours."""
    default = (
        {"speed": {"default": 0}, "sky": {"default": "none"}} if missing == "default" else {"speed": {}, "sky": {}}
    )
    features = {"speed": {"type": "number", **default["speed"]}, "sky": {"type": "category", **default["sky"]}}
    view = FeatureView.model_validate(
        {"entity": {"place": "station"}, "features": features, "max_age": "3h", "missing": missing}
    )

    def read(name: str, entities: Sequence[Mapping[str, str]]) -> list[Known]:
        assert name == "wind"
        assert len({entity["place"] for entity in entities}) == len(entities), "each is asked for once"
        return [STORE.get(entity["place"], NOTHING) for entity in entities]

    return with_features(content, {"wind": view}, read, NOW)


def rows(*places: Any, **more: Any) -> dict[str, Any]:
    """A V1 request about these places."""
    return {"instances": [{"place": place, **more} for place in places], "parameters": {"a": 1}}


def test_rows_of_v1_get_the_features_and_keep_the_rest() -> None:
    found = looked_up(rows("Bern", "Genf", "Bern", "nowhere", pressure=1000))
    assert found["instances"][0] == {"place": "Bern", "pressure": 1000, "speed": 3.5, "sky": "grey"}
    assert [row["speed"] for row in found["instances"]] == [3.5, None, 3.5, None]
    assert found["parameters"] == {"a": 1}


def test_tensors_of_v2_get_them_as_tensors() -> None:
    place = {"name": "place", "datatype": "BYTES", "shape": [2, 1], "data": [["Bern"], ["nowhere"]]}
    found = looked_up({"id": "x", "inputs": [place]})
    assert found == {
        "id": "x",
        "inputs": [
            place,
            {"name": "speed", "datatype": "FP64", "shape": [2, 1], "data": [3.5, None]},
            {"name": "sky", "datatype": "BYTES", "shape": [2, 1], "data": ["grey", None]},
        ],
    }


def test_a_row_may_say_what_moment_it_is_about() -> None:
    moments = ("2026-03-01T11:00:00Z", "2026-03-01T12:00:00+02:00", "2026-03-01T10:59:59", "2026-03-01T15:00:01Z")
    for moment, speed in zip(moments, (1.0, 1.0, 1.0, None), strict=True):
        assert looked_up(rows("Genf", event_timestamp=moment))["instances"] == [
            {"place": "Genf", "speed": speed, "sky": "clear" if speed else None}
        ]
    assert looked_up(rows("Bern", event_timestamp="2026-03-01T10:59:59Z"))["instances"][0]["speed"] is None
    with pytest.raises(BadRequest, match="row 0: event_timestamp is 'soon'; give a moment such as"):
        looked_up(rows("Bern", event_timestamp="soon"))


def test_what_is_missing_gets_its_default() -> None:
    found = looked_up(rows("Genf", "Rom", None), "default")["instances"]
    assert [(row["speed"], row["sky"]) for row in found] == [(0, "none"), (0, "clear"), (0, "none")]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("Genf", "row 1: what the feature store (view wind) knows of place Genf is of 2026-03-01 08:00:00"),
        ("Oslo", "row 1: nothing is known of place Oslo in the feature store (view wind), so speed is missing"),
        ("Rom", "row 1: speed of place Rom is empty in the feature store"),
        (None, "row 1: speed cannot be looked up (view wind); give place"),
    ],
)
def test_a_view_that_refuses_says_which_row_and_why(place: str | None, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        looked_up(rows("Bern", place), "refuse")
    assert message in str(caught.value)


def test_a_feature_that_is_looked_up_is_not_taken_from_the_caller() -> None:
    with pytest.raises(BadRequest, match="row 0: speed is looked up in the feature store"):
        looked_up(rows("Bern", speed=3))


@pytest.mark.parametrize("content", [[], {}, {"instances": 3}, {"instances": [3]}, {"inputs": [{"name": 3}]}, "text"])
def test_what_has_not_the_form_of_a_request_is_left_to_the_predictor(content: Any) -> None:
    assert looked_up(content) == content
