"""Tables in Dagster's own metadata: what a run's events say of the stages that are tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.metadata.metadata_set import TableMetadataSet, UriMetadataSet

from mlops_assets.assets.table_metadata import (
    SHOWN,
    address,
    columns_read_by,
    contract_columns,
    feature_sources,
    table_metadata,
)
from mlops_assets.ml.data.contract import NamedColumn, Target
from resources.lake.lake import Lake
from tests.support import Platform, messages, weather

if TYPE_CHECKING:
    from collections.abc import Mapping

RAIN = {"column": "wet", "from": "Rain AND pressure < 2000"}


def deps(table: TableMetadataSet) -> dict[str, list[tuple[str, str]]]:
    assert table.column_lineage is not None
    found = table.column_lineage.deps_by_column
    return {name: [(dep.asset_key.path[-1], dep.column_name) for dep in of] for name, of in found.items()}


def test_the_materializations_of_a_run_describe_their_tables(platform: Platform) -> None:
    platform.put(weather())
    spec = platform.spec(target=RAIN, features__use=["place", "humidity"])
    result = platform.materialize("raw_data", "prepared_data", "features", model=spec)
    assert result.success, messages(result)

    def table(stage: str) -> tuple[TableMetadataSet, Mapping[str, Any]]:
        event = platform.instance.get_latest_materialization_event(dg.AssetKey([platform.model, stage]))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        return TableMetadataSet.extract(metadata), metadata

    root = f"file://{platform.lake.uri}"
    raw, metadata = table("raw_data")
    assert UriMetadataSet.extract(metadata).uri == f"{root}/weather/*.csv"
    assert (raw.row_count, raw.table_name) == (400, f"{platform.model}.raw_data")
    assert raw.column_schema is not None
    columns = {column.name: column for column in raw.column_schema.columns}
    assert [*columns] == ["place", "pressure", "humidity", "rain"]
    assert columns["pressure"].constraints.other == [">= 900", "<= 1100"]
    assert [name for name, column in columns.items() if column.constraints.nullable] == ["humidity"]

    prepared, metadata = table("prepared_data")
    snapshot = metadata["snapshot"].value
    assert UriMetadataSet.extract(metadata).uri == f"{root}/{snapshot}"
    assert prepared.row_count == 400
    assert prepared.column_schema is not None
    types = {column.name: column.type for column in prepared.column_schema.columns}
    assert types == {"wet": "int64", "place": "category", "pressure": "number", "humidity": "number", "rain": "boolean"}
    assert deps(prepared)["wet"] == [("raw_data", "pressure"), ("raw_data", "rain")]
    assert deps(prepared)["place"] == [("raw_data", "place")]

    features, _ = table("features")
    assert features.row_count == 400
    places = {f"place_{name}": [("prepared_data", "place")] for name in ("Bern", "Genève", "Zürich")}
    assert deps(features) == {"humidity": [("prepared_data", "humidity")], **places}


def test_of_thousands_of_columns_the_first_are_shown() -> None:
    key, contract = dg.AssetKey(["m", "raw_data"]), [NamedColumn(name=f"x{n}", type="number") for n in range(2000)]
    made_of = {column.name: [(key, column.name)] for column in contract}
    found = table_metadata(key, "s3://b", 3, contract_columns(contract), made_of)
    assert len(found["dagster/column_schema"].columns) == len(found["dagster/column_lineage"].deps_by_column) == SHOWN
    assert found["columns"] == "2000, the first 500 of them shown"
    assert "columns" not in table_metadata(key, "s3://b", 3, contract_columns(contract[:SHOWN]), {})


def test_a_column_says_what_the_contract_allows() -> None:
    values = tuple(f"v{number:02d}" for number in range(22))
    [place, age] = contract_columns(
        [
            NamedColumn(name="place", type="category", values=values, nullable=True),
            NamedColumn(name="age", type="number", max=9),
        ]
    )
    assert str(place.description).endswith("v19 and 2 more")
    assert place.constraints.nullable
    assert (age.description, age.constraints.other) == ("to 9", ["<= 9"])


@pytest.mark.parametrize(
    ("target", "read"), [({"column": "B"}, ["B"]), ({"column": "y", "from": "b > 1 OR length(A) = 2"}, ["A", "B"])]
)
def test_the_target_is_made_of_the_columns_it_names(target: dict[str, str], read: list[str]) -> None:
    contract = [NamedColumn(name="A", type="category"), NamedColumn(name="B", type="number")]
    assert columns_read_by(Target.model_validate(target), contract) == read


def test_a_feature_comes_from_the_category_that_its_name_begins_with() -> None:
    inputs = [NamedColumn(name=name, type="category") for name in ("a", "a_b")]
    assert feature_sources(["a_x", "a_b_x"], inputs) == {"a_x": ["a"], "a_b_x": ["a", "a_b"]}


@pytest.mark.parametrize(
    ("root", "place", "uri"),
    [
        ("/lake", "iris/*.csv", "file:///lake/iris/*.csv"),
        ("s3://bucket/lake/", "iris/*.csv", "s3://bucket/lake/iris/*.csv"),
        ("s3://bucket/lake", "s3://other/*.csv", "s3://other/*.csv"),
        ("/lake", "/data/*.csv", "file:///data/*.csv"),
    ],
)
def test_a_place_has_a_uri(root: str, place: str, uri: str) -> None:
    assert address(Lake(uri=root, cache="/cache"), place) == uri
