"""Public tables of statsmodels, as unlike each other as they come, through the whole life by a YAML alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from statsmodels.datasets import fertility, macrodata, modechoice, randhie

from mlops_assets.spec.load_spec import load_spec
from tests.support import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import Platform

MODECHOICE = """
# Four rows for each traveller, who stays on one side of the split; one of the four is the choice
task: binary_classification
source: {uri: travel/**/*.parquet}
target: {column: chosen, from: "choice = 1", positive: true}
columns:
  individual: {type: category}
  mode: {type: category, values: [air, train, bus, car]}
  choice: {type: number}
  ttme: {type: number, min: 0}
  invc: {type: number}
  invt: {type: number}
  gc: {type: number}
  hinc: {type: number}
  psize: {type: number}
prepare: {split: {by: group, column: individual}}
features: {use: [mode, ttme, invc, invt, gc, hinc, psize]}
train:
  network: sklearn.ensemble.HistGradientBoostingClassifier
  params: {max_iter: 60, random_state: 0}
gate: {metric: roc_auc, at_least: 0.8, slices: [mode]}
"""

FERTILITY = """
# 219 countries with years as the names of columns, many of them unknown
task: regression
source: {uri: "births/*.csv", csv: {nulls: [".."]}}
target: {column: "2010"}
columns:
  Country Name: {type: category}
  Country Code: {type: category}
  "1960": {type: number, nullable: true}
  "1985": {type: number, nullable: true}
  "2005": {type: number, nullable: true}
  "2008": {type: number, nullable: true}
  "2010": {type: number}
features: {use: ["1960", "1985", "2005", "2008"]}
train: {network: sklearn.linear_model.Ridge}
gate: {metric: r2, at_least: 0.9}
"""

MACRODATA = """
# Fifty years by quarter, of which the last are the test; a period's time is the index of the table
task: regression
source: {uri: "economy/*.parquet", event_time: quarter_start}
target: {column: saving, from: "realdpi - realcons"}
columns:
  quarter_start: {type: timestamp}
  realgdp: {type: number, min: 0}
  realcons: {type: number, min: 0}
  realdpi: {type: number, min: 0}
  realinv: {type: number}
  unemp: {type: number, min: 0, max: 100}
prepare: {split: {by: time}}
features: {use: [realgdp, realinv, unemp]}
train: {network: sklearn.linear_model.HuberRegressor, params: {max_iter: 2000}}
gate: {metric: mae, at_most: 400}
"""

RANDHIE = """
# Counts of visits to a doctor, nine of ten rows like another one; a network of PyTorch
task: regression
source: {uri: "visits/*.csv", csv: {delimiter: "|", decimal: ",", encoding: utf-16}}
target: {column: mdvis}
columns:
  mdvis: {type: number, min: 0}
  lncoins: {type: number}
  idp: {type: boolean}
  lpi: {type: number}
  fmde: {type: number}
  physlm: {type: number}
  disea: {type: number}
  hlthp: {type: boolean}
features: {use: [lncoins, idp, lpi, fmde, physlm, disea, hlthp]}
train:
  network: mlops_assets.ml.networks.MLP
  params: {hidden: [16]}
  epochs: 4
  batch_size: 256
  learning_rate: 0.01
gate: {metric: mae, at_most: 3.0}
"""


def write_modechoice(platform: Platform) -> None:
    table: Any = modechoice.load_pandas().data
    table["mode"] = table["mode"].map({1.0: "air", 2.0: "train", 3.0: "bus", 4.0: "car"}).astype("category")
    table["individual"] = table["individual"].map("p{:.0f}".format)
    for size, rows in table.groupby("psize"):
        folder = Path(platform.lake.uri) / "travel" / f"party of {size:.0f}"
        folder.mkdir(parents=True)
        rows.to_parquet(folder / "rows.parquet")


def write_fertility(platform: Platform) -> None:
    folder = Path(platform.lake.uri) / "births"
    folder.mkdir(parents=True)
    table: Any = fertility.load_pandas().data
    table.to_csv(folder / "World Bank (2013).csv", index=False, na_rep="..")


def write_macrodata(platform: Platform) -> None:
    table: Any = macrodata.load_pandas().data
    periods = pd.PeriodIndex.from_fields(year=table["year"].astype(int), quarter=table["quarter"].astype(int), freq="Q")
    table.index = periods.to_timestamp().rename("quarter_start")
    folder = Path(platform.lake.uri) / "economy"
    folder.mkdir(parents=True)
    table.to_parquet(folder / "us.parquet", compression="zstd")


def write_randhie(platform: Platform) -> None:
    folder = Path(platform.lake.uri) / "visits"
    folder.mkdir(parents=True)
    table: Any = randhie.load_pandas().data
    for number in range(3):
        rows = table.iloc[number::3]
        rows.to_csv(folder / f"{number}.csv", index=False, sep="|", decimal=",", encoding="utf-16")


@pytest.mark.parametrize(
    ("text", "write"),
    [
        pytest.param(MODECHOICE, write_modechoice, id="modechoice"),
        pytest.param(FERTILITY, write_fertility, id="fertility"),
        pytest.param(MACRODATA, write_macrodata, id="macrodata"),
        pytest.param(RANDHIE, write_randhie, id="randhie", marks=pytest.mark.long),
    ],
)
def test_a_public_table_is_a_served_model_by_its_yaml_alone(
    platform: Platform, text: str, write: Callable[[Platform], None]
) -> None:
    write(platform)
    attributes: dict[str, Any] = {"model": platform.model, **yaml.safe_load(text)}
    result = platform.run(load_spec(attributes, None, "defs.yaml"))
    assert result.success, messages(result)
    assert platform.champion() == 1
