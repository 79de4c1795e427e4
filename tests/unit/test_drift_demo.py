"""`make drift-demo`: its flights are real ones, and the source holds no flight that has not been flown."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, cast

import pyarrow.parquet as pq
import pytest

from mlops_assets import datasets
from mlops_assets.drift_demo import FLIGHTS_A_WEEK, WEEKS, Platform, arrive, demo_spec, flights_of, own_variables
from resources.environment import Environment
from resources.lake.lake import Lake

if TYPE_CHECKING:
    from pathlib import Path


class HasLake:
    """Of the platform the lake alone."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(uri=str(folder / "lake"), cache=str(folder / "cache"))


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flights")
    datasets.flights(folder)
    return folder


def test_a_week_is_asked_about_by_real_flights_that_are_always_the_same(flights: Path) -> None:
    found = flights_of(flights, WEEKS[0])
    assert len(found) == FLIGHTS_A_WEEK
    assert found == flights_of(flights, WEEKS[0])
    assert {flight.asked["month"] for flight in found} == {4, 5}
    assert 0 < sum(flight.late for flight in found) < FLIGHTS_A_WEEK
    assert found[0].asked.keys() == set(demo_spec().features.use)


def test_the_source_holds_what_has_been_flown_by_then(flights: Path, tmp_path: Path) -> None:
    platform = cast("Platform", HasLake(tmp_path))
    arrive(platform, flights, [date(2013, 2, 1), date(2013, 3, 1)], until=date(2014, 1, 1))
    arrive(platform, flights, [date(2013, 9, 1), date(2013, 10, 1)], until=date(2013, 10, 8))
    kept = {path.name: pq.read_table(path) for path in (tmp_path / "lake" / "flights").glob("*.parquet")}
    assert sorted(kept) == ["2013-09.parquet", "2013-10.parquet"]
    assert max(kept["2013-09.parquet"]["day"].to_pylist()) == 30
    assert max(kept["2013-10.parquet"]["day"].to_pylist()) == 7


def test_the_model_is_the_one_that_ships_but_for_what_makes_it_watch() -> None:
    spec = demo_spec()
    assert (spec.model, spec.source.example) == ("flight_delay", None)
    assert spec.retrain is not None
    assert spec.retrain.on_drift


def test_it_touches_no_lake_and_no_mlflow_that_the_shell_names(tmp_path: Path) -> None:
    somebodys = {
        "LAKE_URI": "s3://production/lake",
        "MLFLOW_TRACKING_URI": "https://mlflow.example.com",
        "MLOPS_HOME": "/home/ann/.mlops",
        "MLOPS_SPACE": "ann",
        "SERVING_GRPC_PORT": "8086",
        "AWS_ENDPOINT_URL_S3": "https://s3.example.com",
        "PATH": "/bin",
    }
    own = own_variables(tmp_path, somebodys)
    environment = Environment.read(own)
    assert own["PATH"] == "/bin"
    assert (environment.home, environment.lake_uri) == (tmp_path, str(tmp_path / "lake"))
    assert (environment.mlflow_uri, environment.s3_endpoint_url, environment.space) == (None, None, "")
    assert environment.serving_grpc_port is None
