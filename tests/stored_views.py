"""A model's YAML with a feature view, and what can be wrong with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlops_assets.assets.handles import handle_key
from mlops_assets.spec.load_spec import load_spec
from tests.support import attributes, weather

if TYPE_CHECKING:
    from mlops_assets.spec.model_spec import ModelSpec
    from tests.support import Platform

HOUR = pd.Timedelta(hours=1)

VIEW = "features.from_store.wind"
STORED: dict[str, Any] = {
    "columns": {**attributes()["columns"], "time": {"type": "timestamp"}},
    "source": {"uri": "weather/*.csv", "event_time": "time"},
    "features": {"use": ["place", "pressure", "speed"]},
    "features__from_store__wind": {
        "entity": {"place": "station"},
        "source": {"uri": "wind/*.parquet", "event_time": "measured_at"},
        "features": {"speed": {"type": "number", "min": 0, "max": 200}},
        "max_age": "3h",
    },
}


def stored(*removed: str, **changed: Any) -> dict[str, Any]:
    """A YAML with one feature view, `wind`, whose fields are removed or changed."""
    view = {f"features__from_store__wind__{path}": value for path, value in changed.items()}
    return attributes(*(f"{VIEW}.{path}" for path in removed), **STORED, **view)


def put_rows(platform: Platform) -> None:
    """Write rows of the weather, half an hour after each hour of 200."""
    times = [pd.Timestamp("2026-03-01") + (n + 0.5) * HOUR for n in range(200)]
    platform.put(weather(200).assign(time=times))


def put_wind(platform: Platform, hours: int, station: str = "Bern") -> None:
    """Write the view's source: a row for each hour, whose speed is a tenth of its number."""
    times = [pd.Timestamp("2026-03-01") + n * HOUR for n in range(hours)]
    file = platform.home / "wind.parquet"
    pd.DataFrame({"station": station, "measured_at": times, "speed": np.arange(hours) / 10}).to_parquet(file)
    platform.lake.store.upload(file, f"wind/{station}.parquet")


def model(platform: Platform, **changed: Any) -> ModelSpec:
    """A model of the platform with the view `wind`, whose missing values are empty."""
    return load_spec(stored(**{"missing": "null"} | changed) | {"model": platform.model}, None, "defs.yaml")


def handle(platform: Platform, stage: str, kind: type[Any]) -> Any:
    """The newest handle of a stage."""
    content = platform.lake.store.read(handle_key(f"{platform.model}/{stage}"))
    assert content is not None
    return kind.model_validate_json(content)


BROKEN_VIEWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("views are a list", attributes(features__from_store=[]), "features.from_store", "give fields"),
    (
        "view's name",
        attributes(**STORED, features__from_store__Rain=STORED["features__from_store__wind"]),
        "features.from_store.Rain",
        "small letters",
    ),
    ("unknown field of a view", stored(ttl="3h"), f"{VIEW}.ttl", "allowed here: entity, features, max_age, missing"),
    ("view of nothing", stored(entity={}), f"{VIEW}.entity", "at least 1"),
    ("view without entity", stored("entity"), f"{VIEW}.entity", "missing; add it"),
    ("entity is a list", stored(entity=["place"]), f"{VIEW}.entity", "give fields"),
    ("entity unknown", stored(entity={"plce": "station"}), f"{VIEW}.entity.plce", "did you mean place?"),
    ("entity is a number", stored(entity={"pressure": "p"}), f"{VIEW}.entity.pressure", "declare it as a category"),
    ("entity is the target", stored(entity={"rain": "r"}), f"{VIEW}.entity.rain", "which nobody knows who asks"),
    (
        "two columns, one entity",
        stored(entity={"place": "station", "rain": "station"}),
        f"{VIEW}.entity",
        "give each its own",
    ),
    ("no view features", stored(features={}), f"{VIEW}.features", "at least 1"),
    (
        "view feature's name",
        stored(features={"a b": {"type": "number"}}),
        f"{VIEW}.features.a b",
        "letters, digits and",
    ),
    (
        "view feature's type",
        stored(features__speed__type="text"),
        f"{VIEW}.features.speed.type",
        "'number', 'category'",
    ),
    (
        "view feature is a time",
        stored(features__speed={"type": "timestamp"}),
        f"{VIEW}.features.speed.type",
        "no feature",
    ),
    ("range of a view feature", stored(features__speed__min=300), f"{VIEW}.features.speed.min", "above max 200"),
    (
        "top of a category",
        stored(features__speed={"type": "category", "max": 1}),
        f"{VIEW}.features.speed.max",
        "no range",
    ),
    (
        "view feature's values",
        stored(features__speed__values=["a"]),
        f"{VIEW}.features.speed.values",
        "only categories",
    ),
    (
        "nullable view feature",
        stored(features__speed__nullable=True),
        f"{VIEW}.features.speed.nullable",
        "no such field",
    ),
    (
        "view feature is the entity",
        stored(features={"station": {"type": "category"}}),
        f"{VIEW}.features.station",
        "entity",
    ),
    (
        "view feature is the time",
        stored(features={"measured_at": {"type": "number"}}),
        f"{VIEW}.features.measured_at",
        "is the time of the source's rows",
    ),
    (
        "view feature is the store's time",
        stored(features={"event_timestamp": {"type": "number"}}),
        f"{VIEW}.features.event_timestamp",
        "rename it",
    ),
    (
        "view feature is a raw column",
        stored(features={"Pressure": {"type": "number"}}),
        f"{VIEW}.features.Pressure",
        "pressure is a column of the model's own rows",
    ),
    (
        "view feature is not used",
        stored(features__gust={"type": "number"}),
        f"{VIEW}.features.gust",
        "add it to features.use",
    ),
    (
        "feature in two views",
        attributes(**STORED, features__from_store__gale=STORED["features__from_store__wind"]),
        "features.from_store.gale.features.speed",
        "wind has a feature of this name as well",
    ),
    (
        "no time of rows",
        {**stored(), "source": {"uri": "weather/*.csv"}},
        VIEW,
        "name the column in source.event_time",
    ),
    (
        "refresh without views",
        attributes(features__refresh={"schedule": "*/30 * * * *"}),
        "features.refresh",
        "there are none; add from_store, or remove it",
    ),
    *(
        (f"refresh {given}", attributes(**STORED, features__refresh=given), f"features.refresh{field}", told)
        for given, field, told in (
            ("hourly", "", "give fields"),
            ({}, ".schedule", "missing; add it"),
            ({"schedule": "hourly"}, ".schedule", "cron expression of five fields"),
            ({"schedule": "0 * * * *", "time_zone": "Mars"}, ".time_zone", "Mars"),
        )
    ),
    ("no max_age", stored("max_age"), f"{VIEW}.max_age", "missing; add it"),
    ("max_age is 0", stored(max_age="0s"), f"{VIEW}.max_age", "a number above 0"),
    ("what is missing", stored(missing="drop"), f"{VIEW}.missing", "'refuse', 'null' or 'default'"),
    ("no default", stored(missing="default"), f"{VIEW}.features.speed", "give it a default"),
    ("default, refused", stored(features__speed__default=3), f"{VIEW}.features.speed.default", "remove it, or set"),
    (
        "default of another type",
        stored(missing="default", features__speed__default="much"),
        f"{VIEW}.features.speed.default",
        "'much' is no number",
    ),
    (
        "default out of range",
        stored(missing="default", features__speed__default=300),
        f"{VIEW}.features.speed.default",
        "outside of its own min and max",
    ),
    (
        "default is no value",
        stored(missing="default", features__speed={"type": "category", "values": ["a", "b"], "default": "c"}),
        f"{VIEW}.features.speed.default",
        "none of its values: a, b",
    ),
    ("no source of a view", stored("source"), f"{VIEW}.source", "missing; add it"),
    ("no time in a view's source", stored("source.event_time"), f"{VIEW}.source.event_time", "missing; add it"),
    ("view's uri", stored(source__uri="wind"), f"{VIEW}.source.uri", ".parquet, .csv, .csv.gz"),
    ("dialect of a view's Parquet", stored(source__csv={"decimal": ","}), f"{VIEW}.source.csv", "no dialect"),
    ("example of a view", stored(source__example="no.such.thing"), f"{VIEW}.source.example", "no module no.such"),
    (
        "time of a view is its entity",
        stored(source__event_time="station"),
        f"{VIEW}.source.event_time",
        "name the column with the time",
    ),
]
