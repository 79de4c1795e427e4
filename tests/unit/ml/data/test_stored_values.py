"""Feature views: one row for an entity and a moment, and rows that get what was known at their time, never later."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.data.contract import RFC_4180, NamedColumn, Prepare, Target
from mlops_assets.ml.data.feature_view import FeatureView
from mlops_assets.ml.data.preparation import PreparationPlan
from mlops_assets.ml.data.prepare import prepare
from mlops_assets.ml.data.stored_values import join_views, newest_rows, sampled_rows, write_view
from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.data.stored_values import ViewRows

START = datetime(2026, 3, 1)


def view(**changed: Any) -> FeatureView:
    """Wind and sky at a station, which count for three hours."""
    made: dict[str, Any] = {
        "entity": {"place": "station"},
        "features": {"speed": {"type": "number"}, "sky": {"type": "category"}},
        "max_age": "3h",
        "missing": "null",
    }
    return FeatureView(**made | changed)


def write(folder: Path, rows: pd.DataFrame, used: FeatureView | None = None, suffix: str = "parquet") -> ViewRows:
    """Write a source with these rows, and the view of it as `folder`/out/wind.parquet."""
    source, out = folder / f"source.{suffix}", folder / "out"
    out.mkdir(exist_ok=True)
    rows.to_parquet(source) if suffix == "parquet" else rows.to_csv(source, index=False)
    return write_view("wind", used or view(), "known_at", [source], out, RFC_4180)


def joined(folder: Path, rows: pd.DataFrame, used: FeatureView | None = None) -> pd.DataFrame:
    """These rows (n, place, time) with the features of the view in `folder`/out, in their order."""
    connection = duckdb.connect()
    connection.register("given", rows)
    connection.execute(
        "CREATE TEMP TABLE rows AS SELECT n, CAST(place AS VARCHAR) AS c0, CAST(time AS TIMESTAMP) AS c1 FROM given"
    )
    names = {"place": "c0", "time": "c1", "speed": "c2", "sky": "c3"}
    join_views(connection, "rows", "c1", names, {"wind": (used or view(), folder / "out" / "wind.parquet")})
    return connection.execute("SELECT * FROM rows ORDER BY n").df()


def observations(*rows: tuple[Any, Any, Any, Any]) -> pd.DataFrame:
    """Rows of the source: station, hours after the start, speed, sky."""
    frame = pd.DataFrame(rows, columns=["station", "known_at", "speed", "sky"])
    hours = [None if pd.isna(hour) else START + timedelta(hours=hour) for hour in frame.known_at]
    return frame.assign(known_at=pd.to_datetime(pd.Series(hours)), speed=frame.speed.astype(float))


def asked(*rows: tuple[str | None, float]) -> pd.DataFrame:
    """Rows of the model: place, hours after the start."""
    return pd.DataFrame(
        [
            (n, place, pd.NaT if pd.isna(hour) else START + timedelta(hours=hour))
            for n, (place, hour) in enumerate(rows)
        ],
        columns=["n", "place", "time"],
    )


def test_a_row_gets_the_newest_value_that_was_known_at_its_time(tmp_path: Path) -> None:
    write(tmp_path, observations(("Bern", 0, 1, "clear"), ("Bern", 2, 2, "grey"), ("Genf", 1, 9, "clear")))
    found = joined(tmp_path, asked(("Bern", 1.99), ("Bern", 2), ("Bern", 5), ("Bern", 5.01), ("Bern", -1), ("Rom", 1)))
    np.testing.assert_array_equal(found.c2, [1, 2, 2, np.nan, np.nan, np.nan])
    assert found.c3.fillna("none").tolist() == ["clear", "grey", "grey", "none", "none", "none"]


def test_an_empty_newest_value_is_not_filled_from_an_older_row(tmp_path: Path) -> None:
    write(tmp_path, observations(("Bern", 0, 1, "clear"), ("Bern", 1, None, "grey")))
    found = joined(tmp_path, asked(("Bern", 1)))
    assert (np.isnan(found.c2[0]), found.c3[0]) == (True, "grey")


def test_a_row_without_a_time_or_an_entity_stays_and_gets_nothing(tmp_path: Path) -> None:
    write(tmp_path, observations(("Bern", 0, 1, "clear")))
    found = joined(tmp_path, asked(("Bern", np.nan), (None, 0), ("Bern", 0)))
    np.testing.assert_array_equal(found.c2, [np.nan, np.nan, 1])


def test_what_is_missing_or_too_old_gets_the_default(tmp_path: Path) -> None:
    features = {"speed": {"type": "number", "default": -5}, "sky": {"type": "category", "default": "it's"}}
    used = view(features=features, missing="default")
    write(tmp_path, observations(("Bern", 0, 1, None)), used)
    found = joined(tmp_path, asked(("Bern", 0), ("Bern", 4), (None, 0)), used)
    assert (found.c2.tolist(), found.c3.tolist()) == ([1, -5, -5], ["it's", "it's", "it's"])


def test_rows_without_entity_or_time_are_left_out_and_of_equal_ones_one_stays(tmp_path: Path) -> None:
    rows = observations(
        ("Bern", 0, 1, "clear"),
        ("Bern", 0, None, "grey"),
        ("Bern", 0, 3, None),
        (None, 0, 1, "a"),
        ("Rom", None, 1, "a"),
    )
    for order in (rows, rows[::-1]):
        report = write(tmp_path, order)
        assert (report.rows, report.incomplete, report.duplicates, report.kept) == (5, 2, 2, 1)
        found = joined(tmp_path, asked(("Bern", 0)))
        assert (found.c2[0], found.c3.isna()[0]) == (3, True)


def test_times_with_an_offset_are_compared_as_moments(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "station": ["Bern"] * 2,
            "known_at": ["2026-03-01T02:00:00+02:00", "2026-03-01T02:00:00Z"],
            "speed": [1, 2],
            "sky": "a",
        }
    )
    report = write(tmp_path, rows, suffix="csv")
    assert (report.first_event, report.last_event) == (START, START + timedelta(hours=2))
    assert joined(tmp_path, asked(("Bern", 1), ("Bern", 2))).c2.tolist() == [1, 2]


def test_a_source_that_does_not_fit_is_told(tmp_path: Path) -> None:
    good = observations(("Bern", 0, 1, "clear"))
    with pytest.raises(DataError, match="has no column speed"):
        write(tmp_path, good.drop(columns="speed"))
    with pytest.raises(DataError, match="speed has the type BOOLEAN|no number"):
        write(tmp_path, good.astype({"speed": object}).assign(speed="fast"))
    with pytest.raises(DataError, match=r"wind: None of 1 rows has an entity \(station\) and a time \(known_at\)"):
        write(tmp_path, good.assign(station=[None]).astype({"station": "string"}))


def naive(rows: pd.DataFrame, known: pd.DataFrame, max_age: timedelta) -> list[float]:
    """The speed of each row, by looking at all that is known; of one moment the greatest counts, and none is least."""
    found = list[float]()
    for row in rows.itertuples():
        usable = [
            (seen.known_at, -np.inf if np.isnan(seen.speed) else seen.speed)
            for seen in known.itertuples()
            if seen.station == row.place and seen.known_at <= row.time and row.time - seen.known_at <= max_age
        ]
        found.append(max(usable, default=(None, -np.inf))[1])
    return [np.nan if value == -np.inf else value for value in found]


places = st.sampled_from(["Bern", "Genf", "", None])
hours = st.integers(0, 12).map(lambda quarter: quarter / 4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    known=st.lists(
        st.tuples(places, hours, st.one_of(st.none(), st.integers(0, 3)), st.just("a")), min_size=1, max_size=12
    ),
    rows=st.lists(st.tuples(places, hours), min_size=1, max_size=12),
    quarters=st.integers(1, 6),
)
def test_the_join_gives_what_a_naive_one_does(tmp_path: Path, known: Any, rows: Any, quarters: int) -> None:
    used = view(max_age=f"{quarters * 15}m")
    usable = [("Rom", 0, 0, "a"), *known]
    write(tmp_path, observations(*usable), used)
    found = joined(tmp_path, asked(*rows), used)
    expected = naive(asked(*rows), observations(*[row for row in usable if row[0]]), used.max_age)
    np.testing.assert_array_equal(found.c2, expected)


def newest(folder: Path, before: Path | None = None) -> dict[str, tuple[Any, ...]]:
    """Speed, sky and hour of what is new of each place in the view in `folder`/out."""
    with newest_rows(view(), folder / "out" / "wind.parquet", before) as batches:
        rows = [row for batch in batches for row in batch]
    return {row["place"]: (row["speed"], row["sky"], (row["event_timestamp"] - START).seconds // 3600) for row in rows}


def test_the_newest_rows_are_one_for_each_entity_and_those_that_were_new_before_are_left_out(tmp_path: Path) -> None:
    rows = observations(("Bern", 0, 1, "a"), ("Bern", 2, None, "b"), ("Genf", 1, 9, "c"))
    write(tmp_path, rows)
    assert newest(tmp_path) == {"Bern": (None, "b", 2), "Genf": (9, "c", 1)}
    before = (tmp_path / "out" / "wind.parquet").rename(tmp_path / "before.parquet")
    # Rows may come late: that of Rom is older than what was there
    write(tmp_path, pd.concat([rows, observations(("Genf", 3, 9, "c"), ("Rom", 0, 4, "d"), ("Bern", 1, 7, "e"))]))
    assert newest(tmp_path, before) == {"Genf": (9, "c", 3), "Rom": (4, "d", 0)}


def test_sampled_rows_are_what_the_join_gives(tmp_path: Path) -> None:
    write(tmp_path, observations(("Bern", 0, 1, "a"), ("Bern", 2, 2, "b"), ("Genf", 5, 9, "c")))
    found = sampled_rows(view(), tmp_path / "out" / "wind.parquet", START + timedelta(hours=5), 10)
    assert sorted(found, key=lambda row: row["place"]) == [
        {"place": "Bern", "speed": 2, "sky": "b"},
        {"place": "Genf", "speed": 9, "sky": "c"},
    ]
    assert len(sampled_rows(view(), tmp_path / "out" / "wind.parquet", START, 1)) == 1


COLUMNS = (
    NamedColumn(name="place", type="category"),
    NamedColumn(name="time", type="timestamp"),
    NamedColumn(name="late", type="boolean"),
)


@pytest.mark.parametrize(("missing", "kept"), [("refuse", 150), ("null", 200)])
def test_prepared_rows_have_the_features_and_refused_ones_are_dropped(tmp_path: Path, missing: str, kept: int) -> None:
    used = view(missing=missing, features={"speed": {"type": "number", "max": 100}})
    write(tmp_path, observations(*[("Bern", hour, hour, "a") for hour in range(100)], ("Genf", 0, 500, "a")), used)
    rows = pd.DataFrame(
        {
            "place": ["Bern"] * 150 + ["Rom"] * 50,
            "time": [START + timedelta(hours=n % 100) for n in range(200)],
            "late": [n % 3 == 0 for n in range(200)],
        }
    )
    rows.to_parquet(tmp_path / "rows.parquet")
    plan = PreparationPlan(
        columns=COLUMNS,
        target=Target(column="late"),
        task="binary_classification",
        prepare=Prepare(),
        event_time="time",
    )
    out = tmp_path / "prepared"
    out.mkdir()
    views = {"wind": (used, tmp_path / "out" / "wind.parquet")}
    report = prepare([tmp_path / "rows.parquet"], out, plan, views=views)
    assert report.train_rows + report.test_rows == kept
    assert (report.columns["speed"].nulls, report.violations) == (50, ())
    prepared = pd.concat(pd.read_parquet(out / f"{part}.parquet") for part in ("train", "test"))
    bern = prepared[prepared.place == "Bern"]
    assert (bern.speed == (bern.time - START).dt.total_seconds() / 3600).all()
