"""The online store: what is written is read, by views that stand in the store, in SQLite and in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.data.feature_view import FeatureView
from mlops_assets.ml.errors import SpecError
from resources.environment import Environment
from resources.features.online_store import NOTHING, Known, OnlineStore

if TYPE_CHECKING:
    from pathlib import Path

    from resources.features.online_store import OnlineViews

AT = datetime(2026, 3, 1, 12, 30)


def view(*left_out: str, **changed: Any) -> FeatureView:
    """What is measured at a place by an instrument."""
    features = {"speed": {"type": "number"}, "sky": {"type": "category"}, "storm": {"type": "boolean"}}
    made: dict[str, Any] = {
        "entity": {"place": "station", "instrument": "device"},
        "features": {name: kind for name, kind in features.items() if name not in left_out},
        "max_age": "3h",
        "missing": "null",
    }
    return FeatureView(**made | changed)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OnlineStore:
    """An empty store."""
    database = request.getfixturevalue("postgres") if request.param == "postgres" else None
    return OnlineStore(tmp_path / "features", database)


@pytest.fixture
def online(store: OnlineStore, tmp_path: Path) -> OnlineViews:
    """The model's views in the store, without values."""
    made = store.of("a-b--weather")
    made.register({"wind": view()}, {"wind": tmp_path / "wind.parquet"})
    return made


def row(place: str, speed: float | None = 1.5, **changed: Any) -> dict[str, Any]:
    """A row to write."""
    made = {"place": place, "instrument": "a", "event_timestamp": AT, "speed": speed, "sky": "grey", "storm": True}
    return made | changed


def test_what_is_written_is_read_in_the_order_of_the_question(online: OnlineViews) -> None:
    assert online.write("wind", [row("Bern"), row("Genf", None, sky=None), row("Zürich", 0.1, storm=False)]) == 3
    asked = [{"place": place, "instrument": "a"} for place in ("Genf", "nowhere", "Zürich", "Bern", "Genf")]
    genf, nothing, zurich, bern, again = online.read("wind", asked)
    assert genf == again == Known(AT, {"storm": True})
    assert nothing == NOTHING
    assert (zurich, bern) == (
        Known(AT, {"speed": 0.1, "sky": "grey", "storm": False}),
        Known(AT, {"speed": 1.5, "sky": "grey", "storm": True}),
    )
    assert online.read("wind", [{"place": "Bern", "instrument": "b"}]) == [NOTHING]


def test_a_request_may_ask_about_more_entities_than_a_statement_takes(online: OnlineViews) -> None:
    online.write("wind", [row("Bern")])
    found = online.read(
        "wind", [{"place": f"{n}", "instrument": "a"} for n in range(40_000)] + [{"place": "Bern", "instrument": "a"}]
    )
    assert found == [NOTHING] * 40_000 + [Known(AT, {"speed": 1.5, "sky": "grey", "storm": True})]


def test_a_later_row_takes_the_place_of_an_earlier_one(online: OnlineViews) -> None:
    later = AT.replace(hour=13)
    online.write("wind", [row("Bern")])
    online.write("wind", [row("Bern", None, event_timestamp=later)])
    assert online.read("wind", [{"place": "Bern", "instrument": "a"}]) == [Known(later, {"sky": "grey", "storm": True})]


def test_another_process_finds_the_views_with_their_rules(store: OnlineStore, online: OnlineViews) -> None:
    online.write("wind", [row("Bern")])
    other = store.of("a-b--weather")
    assert other.views() == {"wind": view()}
    assert other.read("wind", [{"place": "Bern", "instrument": "a"}])[0].values["speed"] == 1.5
    assert store.of("weather").views() == {}


def test_a_models_views_go_with_their_tables_and_all_that_is_registered(
    store: OnlineStore, online: OnlineViews, tmp_path: Path
) -> None:
    online.write("wind", [row("Bern")])
    other = store.of("other")
    other.register({"wind": view()}, {"wind": tmp_path / "wind.parquet"})
    other.write("wind", [row("Bern")])
    assert store.remove("a-b--weather") == ["wind"]
    assert store.remove("a-b--weather") == []
    assert store.of("a-b--weather").views() == {}
    assert store.of("other").read("wind", [{"place": "Bern", "instrument": "a"}])[0].at == AT
    again = store.of("a-b--weather")
    again.register({"wind": view()}, {"wind": tmp_path / "wind.parquet"})
    assert again.read("wind", [{"place": "Bern", "instrument": "a"}]) == [NOTHING], "nothing of before is found"
    assert again.materialized("wind") is None


def test_of_a_removed_model_postgresql_has_nothing_left(postgres: str, tmp_path: Path) -> None:
    import psycopg

    store = OnlineStore(None, postgres)
    store.of("gone").register({"wind": view(), "gale": view("sky")}, dict.fromkeys(("wind", "gale"), tmp_path / "w"))
    with psycopg.connect(postgres) as connection:
        tables = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'gone%'"
        assert len(connection.execute(tables).fetchall()) == 2
    assert store.remove("gone") == ["gale", "wind"]
    with psycopg.connect(postgres) as connection:
        assert connection.execute(tables).fetchall() == []
        for table in ("feature_views", "entities", "data_sources", "projects", "feast_metadata"):
            [count] = connection.execute(f"SELECT count(*) FROM {table} WHERE project_id = 'gone'").fetchone() or [1]
            assert count == 0, table


def test_what_was_materialized_is_known_until_the_columns_change(online: OnlineViews, tmp_path: Path) -> None:
    files = {"wind": tmp_path / "wind.parquet", "gale": tmp_path / "gale.parquet"}
    assert online.materialized("wind") is None
    online.has_materialized("wind", "v1")
    online.register({"wind": view(max_age="1h"), "gale": view("sky")}, files)
    assert (online.materialized("wind"), online.materialized("gale")) == ("v1", None)
    assert online.views() == {"wind": view(max_age="1h"), "gale": view("sky")}
    online.register({"wind": view("storm")}, files)
    assert (online.materialized("wind"), online.views()) == (None, {"wind": view("storm")})
    online.has_materialized("wind", "v2")
    online.has_materialized("wind", None)
    assert online.materialized("wind") is None


def test_production_needs_a_database_for_views() -> None:
    images = {"MLOPS_PREDICTOR_IMAGE": "predictor:1", "MLOPS_TRAINER_IMAGE": "trainer:1"}
    needed = {"MLOPS_ENV": "production", "LAKE_URI": "s3://lake", "MLFLOW_TRACKING_URI": "http://mlflow", **images}
    store = OnlineStore.in_environment(Environment.read(needed))
    assert not store.has("weather")
    with pytest.raises(SpecError, match="views need a database; set MLOPS_FEATURES_DATABASE"):
        store.of("weather")
