"""What people met with their own data, from public reports and from our users: served, or refused with the reason.

Whatever broke once gets a row here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.ml.errors import MlopsError
from tests.whole_life import Life, live

if TYPE_CHECKING:
    from pathlib import Path

Files = Callable[["Path", pd.DataFrame], None]


def orders(rows: int = 400) -> pd.DataFrame:
    """Parcels that are late when they are heavy, many or from the east, with noise; no two are equal."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "shop": random.choice(["north", "south", "east"], rows),
            "weight": random.normal(50, 10, rows).round(4),
            "pieces": random.integers(1, 9, rows),
        }
    )
    burden = frame.weight + 4 * frame.pieces + 6 * (frame["shop"] == "east")
    frame["late"] = burden + random.normal(0, 6, rows) > 70
    return frame


def csv(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame, **options: Any) -> Files:
    """One CSV file."""
    return lambda folder, frame: change(frame).to_csv(folder / "a.csv", index=False, **options)


def parquet(
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame, fields: dict[str, Any] | None = None
) -> Files:
    """One Parquet file; `fields` are columns of a type that pandas would not choose."""

    def write(folder: Path, frame: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(change(frame), preserve_index=False)
        for name, (values, kind) in (fields or {}).items():
            column = pa.array([values[i % len(values)] for i in range(len(frame))], kind)
            index = table.schema.get_field_index(name)
            table = table.append_column(name, column) if index < 0 else table.set_column(index, name, column)
        pq.write_table(table, folder / "a.parquet")

    return write


def text(content: Callable[[pd.DataFrame], str], encoding: str = "utf-8") -> Files:
    """A CSV file as it is typed."""
    return lambda folder, frame: (folder / "a.csv").write_text(content(frame), encoding=encoding) and None


def many(count: int, suffix: str = "csv") -> Files:
    """A file a day."""

    def write(folder: Path, frame: pd.DataFrame) -> None:
        for index in range(count):
            part = frame.iloc[index::count]
            path = folder / f"{index:04d}.{suffix}"
            part.to_parquet(path) if suffix == "parquet" else part.to_csv(path, index=False)

    return write


def split_in_two(first: str, second: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Files:
    """Two CSV files, of which the second is changed."""

    def write(folder: Path, frame: pd.DataFrame) -> None:
        frame.iloc[:200].to_csv(folder / first, index=False)
        change(frame.iloc[200:]).to_csv(folder / second, index=False)

    return write


@dataclass(frozen=True)
class Case:
    """Files, what of the YAML differs, and what becomes of it: `told` to the user, or `holds` of the served model."""

    files: Files = field(default_factory=csv)
    yaml: dict[str, Any] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    told: str | None = None
    holds: Callable[[Life], object] = lambda life: True


def renamed(*names: str) -> Case:
    """The three features under other names."""
    return Case(
        csv(lambda frame: frame.set_axis([*names, "late"], axis=1)), rename=dict(zip(COLUMNS, names, strict=True))
    )


COLUMNS = ("shop", "weight", "pieces")
NETWORK = {"network": "", "epochs": 3, "batch_size": 41, "learning_rate": 0.01}
TIMED = {"source": {"event_time": "at"}, "columns": {"at": {"type": "timestamp"}}}
REGRESSION = {
    "task": "regression",
    "train": {"network": "sklearn.linear_model.Ridge"},
    "gate": {"metric": "rmse", "at_most": 1e9},
}


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """An order an hour."""
    return frame.assign(at=pd.date_range("2025-01-01", periods=len(frame), freq="h"))


def four_days(frame: pd.DataFrame) -> pd.DataFrame:
    """Orders of four days, of which the last has the most."""
    return frame.assign(
        at=pd.to_datetime(np.repeat(["2025-01-01", "2025-01-02", "2025-01-03", "2025-01-04"], [90, 90, 100, 120]))
    )


CASES: dict[str, Case] = {
    # Files
    "three CSV files": Case(many(3)),
    "two gzipped CSV files": Case(many(2, "csv.gz"), {"source": {"uri": "t/*.csv.gz"}}),
    "a hundred CSV files": Case(many(100)),
    "brackets in the name of a file": Case(
        split_in_two("sales1.csv", "sales[1].csv", lambda part: part.assign(shop="west")),
        holds=lambda life: life.preparation.rows_read == 400 and "shop_west" in life.features.feature_names,
    ),
    "an older file lacks a column that may be missing": Case(
        split_in_two("a.csv", "b.csv", lambda part: part.drop(columns="weight")),
        {"columns": {"weight": {"type": "number", "nullable": True}}},
        holds=lambda life: life.preparation.columns["weight"].nulls == 200,
    ),
    "an older file lacks a column that may not": Case(
        split_in_two("a.csv", "b.csv", lambda part: part.drop(columns="weight")),
        told="b.csv has no column weight; it has shop, pieces, late",
    ),
    # Names
    "names with dots, brackets and umlauts": renamed("home.shop", "weight (kg)", "Stückzahl [n]"),
    "names that a converter would make alike": renamed("a", "size.kg", "size_kg"),
    **{
        f"a column called {name}": renamed(name, "weight", "pieces")
        for name in ("label", "features", "classes", "scores", "probabilities", "prediction", "c1", "__target")
    },
    "names that differ in case only": Case(
        yaml={"columns": {"Shop": {"type": "category"}}}, told="shop and Shop differ in case only"
    ),
    "a target that differs from a column in case only": Case(
        yaml={"target": {"column": "Pieces", "from": "weight > 50"}, "features": {"use": ["shop"]}},
        told="pieces and Pieces differ in case only",
    ),
    "a header whose case differs": Case(
        csv(lambda frame: frame.rename(columns={"shop": "Shop"})), told="call it 'Shop', as the file does"
    ),
    # Values
    "an empty text in Parquet is missing": Case(
        parquet(lambda frame: frame.assign(shop=frame["shop"].where(frame.index % 10 > 0, ""))),
        holds=lambda life: life.preparation.rows_with_nulls == 40,
    ),
    "classes above 2 to the 24th": Case(
        parquet(lambda frame: frame.assign(late=20250101 + frame.pieces % 4)),
        {"task": "multiclass_classification", "columns": {"late": {"type": "number"}}},
        holds=lambda life: life.preparation.classes == (20250101, 20250102, 20250103, 20250104),
    ),
    "a double beyond float32 in Parquet": Case(
        parquet(lambda frame: frame.assign(weight=np.where(frame.index % 4 == 0, 1e39, frame.weight))),
        told="weight: 100 rows break finite, such as 1e\\+39",
    ),
    "the same in CSV": Case(
        csv(lambda frame: frame.assign(weight=np.where(frame.index % 4 == 0, 1e39, frame.weight))),
        told="weight: 100 rows break finite, such as 1e\\+39",
    ),
    "minus one for a boolean": Case(
        parquet(lambda frame: frame.assign(late=np.where(frame.index % 5 == 0, -1, frame.late))),
        told="late has 80 values that are no boolean, such as '-1'",
    ),
    "a boolean with gaps, as pandas writes it": Case(
        csv(lambda frame: frame.assign(late=frame.late.astype(float).where(frame.index % 10 > 0))),
        holds=lambda life: life.preparation.classes == (False, True) and life.preparation.rows_with_nulls == 40,
    ),
    "whole numbers with gaps as a category": Case(
        parquet(lambda frame: frame.assign(shop=(frame.index % 3).astype(float).where(frame.index % 10 > 0))),
        {"columns": {"shop": {"type": "category", "nullable": True}}},
        holds=lambda life: {"shop_0", "shop_1", "shop_2"} <= {*life.features.feature_names},
    ),
    "NA is a value where the contract says so": Case(
        csv(lambda frame: frame.assign(shop=frame["shop"].map({"north": "NA", "south": "ZA", "east": "BW"}))),
        {"columns": {"shop": {"type": "category", "values": ["NA", "ZA", "BW"]}}},
        holds=lambda life: life.preparation.rows_with_nulls == 0,
    ),
    "NA is a value where the dialect says so": Case(
        csv(lambda frame: frame.assign(shop=frame["shop"].where(frame["shop"] != "north", "NA"))),
        {"source": {"csv": {"nulls": [""]}}},
        holds=lambda life: "shop_NA" in life.features.feature_names,
    ),
    "a question mark for what is missing": Case(
        csv(lambda frame: frame.assign(weight=frame.weight.astype(object).where(frame.index % 10 > 0, "?"))),
        {"source": {"csv": {"nulls": ["", "?"]}}},
        holds=lambda life: life.preparation.rows_with_nulls == 40,
    ),
    "a number for what is missing": Case(
        csv(lambda frame: frame.assign(weight=frame.weight.where(frame.index % 10 > 0, -999))),
        {"source": {"csv": {"nulls": ["", "-999.0"]}}},
        holds=lambda life: life.preparation.rows_with_nulls == 40,
    ),
    "most rows lack a value": Case(
        csv(lambda frame: frame.assign(weight=frame.weight.where(frame.index % 50 == 0))),
        told="98.0% of 400 rows are dropped: 392 for nulls, .* in weight .*allow a larger share",
    ),
    "0.0 and -0.0 are one value": Case(
        csv(lambda frame: frame.assign(weight=np.where(frame.index % 2 == 0, -0.0, 0.0), pieces=frame.index % 40)),
        {"prepare": {"drop_duplicates": True, "max_dropped": 1}},
        holds=lambda life: life.preparation.repeated_rows == 0,
    ),
    "limits below 1e-4": Case(
        csv(lambda frame: frame.assign(weight=1e-05)),
        {"columns": {"weight": {"type": "number", "min": 1e-05, "max": 1e-05}}},
    ),
    "limits of float32": Case(
        parquet(lambda frame: frame.assign(weight=np.float32(0.1))),
        {"columns": {"weight": {"type": "number", "min": 0.1, "max": 0.1}}},
    ),
    "the smallest of all integers": Case(
        parquet(lambda frame: frame.assign(pieces=np.where(frame.index < 3, -(2**63), frame.pieces)))
    ),
    "infinity as a class": Case(
        parquet(lambda frame: frame.assign(late=np.where(frame.late, np.inf, 1.0))),
        {"columns": {"late": {"type": "number"}}},
        told="late: .* rows break finite, such as inf",
    ),
    "infinity as a computed class": Case(
        yaml={
            "target": {"column": "t", "from": "1 / (pieces % 2)::DOUBLE"},
            "features": {"use": ["shop", "weight"]},
        },
        told="t: .* rows break finite, such as inf",
    ),
    # Types of Parquet
    "a list where a number is wanted": Case(
        parquet(fields={"pieces": ([[1], [2]], pa.list_(pa.int64()))}),
        told="has the type BIGINT\\[\\], but the contract says number",
    ),
    "a struct where a category is wanted": Case(
        parquet(fields={"shop": ([{"a": 1}], pa.struct([("a", pa.int64())]))}), told="has the type STRUCT"
    ),
    "texts without a mark of their encoding": Case(
        parquet(fields={"shop": ([b"a", "é".encode(), b"c"], pa.binary())}),
        holds=lambda life: "shop_é" in life.features.feature_names,
    ),
    "timestamps as text": Case(
        parquet(lambda frame: timed(frame).astype({"at": str})),
        {**TIMED, "prepare": {"split": {"by": "time"}}},
        holds=lambda life: life.preparation.test_from is not None,
    ),
    "numbers as text": Case(parquet(lambda frame: frame.astype({"weight": str}))),
    "whole numbers beyond float64 as text": Case(
        csv(lambda frame: frame.assign(pieces=2**60 + frame.index)),
        told="whole numbers that float64 cannot hold, such as '11529215",
    ),
    "decimals, unsigned and dictionaries": Case(
        parquet(
            fields={
                "weight": ([Decimal("1.50"), Decimal("2.25"), Decimal("3.75")], pa.decimal128(9, 2)),
                "pieces": ([1, 2], pa.uint64()),
            }
        )
    ),
    # Targets
    "a target that subtracts moments": Case(
        csv(lambda frame: frame.assign(ordered=1_700_000_000, delivered=1_700_000_000 + 40 + frame.pieces * 4 - 4)),
        {
            "target": {"column": "slow", "from": "delivered - ordered > 60"},
            "columns": {"ordered": {"type": "number"}, "delivered": {"type": "number"}},
            "features": {"use": ["shop", "pieces"]},
        },
        holds=lambda life: (
            life.preparation.label_rates["train"]["True"] == pytest.approx(0.25, abs=0.08)
            and life.metrics["accuracy"] > 0.95
        ),
    ),
    **{
        f"seconds since 1970 as a target of {network}": Case(
            csv(lambda frame: frame.assign(late=1_700_000_000 + 60 * frame.pieces + frame.weight.round(0))),
            {**REGRESSION, "columns": {"late": {"type": "number"}}, "train": {"network": network, **more}},
            holds=lambda life: life.metrics["r2"] > 0.97,
        )
        for network, more in (
            ("sklearn.linear_model.LinearRegression", {}),
            ("sklearn.ensemble.RandomForestRegressor", {}),
            ("mlops_assets.ml.networks.MLP", {"epochs": 100, "batch_size": 32, "learning_rate": 0.01}),
        )
    },
    "a target of decimals": Case(
        yaml={
            "target": {"column": "slow", "from": "CASE WHEN weight > 50 THEN 1.0 ELSE 0.0 END"},
            "features": {"use": ["shop", "pieces"]},
        },
        holds=lambda life: life.preparation.classes == (0, 1),
    ),
    "a target of days": Case(
        csv(timed),
        {
            **TIMED,
            "task": "multiclass_classification",
            "target": {"column": "day", "from": "date_trunc('week', \"at\")"},
        },
        holds=lambda life: (
            life.preparation.classes is not None and life.preparation.classes[0] == "2024-12-30 00:00:00"
        ),
    ),
    "a target that is an interval": Case(
        csv(timed),
        {**TIMED, **REGRESSION, "target": {"column": "took", "from": "\"at\" - TIMESTAMP '2025-01-01'"}},
        told="Regression needs a number, but took is of the type INTERVAL; use epoch",
    ),
    "a target that is divided by zero": Case(
        csv(lambda frame: frame.assign(pieces=frame.index % 8)),
        {**REGRESSION, "target": {"column": "each", "from": "weight / pieces"}, "features": {"use": ["shop"]}},
        told="each: 50 rows break finite, such as inf",
    ),
    "a target that overflows": Case(
        yaml={**REGRESSION, "target": {"column": "e", "from": "exp(weight * 1e6)"}, "features": {"use": ["shop"]}},
        told="target.from: .*cannot be computed .*Out of Range|e: .* break finite",
    ),
    "an expression with a quoted name": Case(
        csv(lambda frame: frame.rename(columns={"weight": "weight (kg)"})),
        {"target": {"column": "heavy", "from": '"weight (kg)" > 50'}, "features": {"use": ["shop", "pieces"]}},
        {"weight": "weight (kg)"},
    ),
    "an expression with a column's name as text": Case(
        yaml={
            "target": {"column": "t", "from": "weight > 50 OR 'pieces' = 'x'"},
            "features": {"use": ["shop", "pieces"]},
        }
    ),
    "an expression that names a function like a feature": Case(
        csv(lambda frame: timed(frame).rename(columns={"pieces": "hour"})),
        {
            **TIMED,
            "target": {"column": "t", "from": 'hour("at") > 11'},
            "features": {"use": ["shop", "weight", "hour"]},
        },
        {"pieces": "hour"},
    ),
    "an expression with a word of SQL": Case(
        csv(timed),
        {**TIMED, "target": {"column": "t", "from": "at > TIMESTAMP '2025-01-09'"}},
        told="no SQL expression.*in double quotes",
    ),
    "an expression in another case": Case(
        yaml={"target": {"column": "t", "from": "WEIGHT > 50"}, "features": {"use": ["shop"]}}
    ),
    "a feature in another case than in the expression": Case(
        yaml={"target": {"column": "t", "from": "WEIGHT > 50"}, "features": {"use": ["weight"]}},
        told="computed from weight .* leakage",
    ),
    "the positive class is the declared one": Case(
        csv(lambda frame: frame.assign(late=np.where(frame.late, "fraud", "legit"))),
        {"columns": {"late": {"type": "category"}}, "target": {"positive": "fraud"}},
        holds=lambda life: life.preparation.classes == ("legit", "fraud"),
    ),
    "a positive class that is none": Case(
        yaml={"target": {"positive": "fraud"}}, told="target.positive: 'fraud' is none of its classes: False, True"
    ),
    # Few distinct rows, and small data
    "a survey with eight distinct answers": Case(
        csv(
            lambda frame: frame.assign(
                shop=np.where(frame.index % 2, "a", "b"),
                weight=1,
                pieces=frame.index // 2 % 2,
                late=frame.index // 4 % 2 > 0,
            )
        ),
        holds=lambda life: (
            life.preparation.train_rows + life.preparation.test_rows == 400 and 40 < life.preparation.test_rows < 130
        ),
    ),
    "twenty rows of two classes": Case(csv(lambda frame: frame.head(20).assign(late=frame.index[:20] % 2 > 0))),
    "a class with two rows": Case(
        csv(lambda frame: frame.assign(late=np.where(frame.index < 2, "rare", np.where(frame.late, "late", "fine")))),
        {"task": "multiclass_classification", "columns": {"late": {"type": "category"}}},
    ),
    "a class with one row": Case(
        csv(lambda frame: frame.assign(late=np.where(frame.index < 1, "rare", np.where(frame.late, "late", "fine")))),
        {"task": "multiclass_classification", "columns": {"late": {"type": "category"}}},
        told="The test part has no row of class rare; bring more data",
    ),
    # Time
    "rows without an event time": Case(
        csv(lambda frame: timed(frame).assign(at=lambda f: f["at"].where(f.index % 4 > 0))),
        {
            "source": {"event_time": "at"},
            "columns": {"at": {"type": "timestamp", "nullable": True}},
            "prepare": {"split": {"by": "time"}},
        },
        told="columns.at.nullable: a row without at is in no partition and on no side",
    ),
    "rows that lack an event time are counted as such": Case(
        csv(lambda frame: timed(frame).assign(at=lambda f: f["at"].where(f.index % 10 > 0))),
        {**TIMED, "prepare": {"split": {"by": "time"}}},
        holds=lambda life: (life.preparation.rows_with_nulls, life.preparation.duplicates) == (40, 0),
    ),
    "four days, the last of which has the most": Case(
        csv(four_days),
        {**TIMED, "prepare": {"split": {"by": "time", "test": 0.2}}},
        holds=lambda life: (life.preparation.test_rows, life.preparation.validation_rows) == (120, 100),
    ),
    "groups stay together in validation as well": Case(
        csv(lambda frame: frame.assign(shop=[f"s{index % 40}" for index in frame.index])),
        {"prepare": {"split": {"by": "group", "column": "shop"}}},
        holds=lambda life: life.preparation.validation_rows % 10 == 0 < life.preparation.validation_rows,
    ),
    # One value in two spellings
    "a category that is 1 in one month and 1.0 in another": Case(
        csv(lambda frame: frame.assign(shop=np.where(frame.index < 200, "1", "1.0"))),
        told="shop has both '1' and '1.0', one value that is written in two ways; write it alike everywhere",
    ),
    "a class that is 1 in one month and 1.0 in another": Case(
        csv(
            lambda frame: frame.assign(late=frame.late.astype(int).astype(str) + np.where(frame.index < 200, "", ".0"))
        ),
        {"columns": {"late": {"type": "category"}}},
        told="late has both '0' and '0.0', one value that is written in two ways.*number or boolean",
    ),
    "a boolean that is 1 in one month and 1.0 in another": Case(
        csv(
            lambda frame: frame.assign(late=frame.late.astype(int).astype(str) + np.where(frame.index < 200, "", ".0"))
        ),
        holds=lambda life: life.preparation.classes == (False, True),
    ),
    "two hundred classes of texts": Case(
        csv(lambda frame: frame.assign(late=[f"k{row % 200}" for row in frame.index])),
        {"task": "multiclass_classification", "columns": {"late": {"type": "category"}}},
        told="late has more than 100 classes .*; put rare ones together, such as by target.from",
    ),
    # Dialects
    "a quote near the end": Case(
        text(
            lambda frame: (
                frame.loc[frame.index.repeat(80)].to_csv(index=False)
                + '"Smith, John",50,3,True\n"say ""hi""",50,3,True\n' * 20
            )
        ),
        holds=lambda life: {"shop_Smith, John", 'shop_say "hi"'} <= {*life.features.feature_names},
    ),
    "semicolons and decimal commas": Case(csv(sep=";", decimal=","), {"source": {"csv": {"decimal": ","}}}),
    "thousands": Case(
        csv(lambda frame: frame.assign(weight=[f"1,{value:06.2f}" for value in frame.weight])),
        {"source": {"csv": {"thousands": ","}}},
        holds=lambda life: float(life.preparation.columns["weight"].min or 0) > 1_000,
    ),
    "days before months": Case(
        csv(lambda frame: timed(frame).assign(at=lambda f: f["at"].dt.strftime("%d/%m/%Y %H:%M"))),
        {
            "source": {"event_time": "at", "csv": {"date_format": "%d/%m/%Y %H:%M"}},
            "columns": {"at": {"type": "timestamp"}},
        },
        holds=lambda life: (life.preparation.columns["at"].max or "").startswith("2025-01-17"),
    ),
    "Latin-1": Case(
        csv(lambda frame: frame.assign(shop="Zürich"), encoding="latin-1"),
        told="not utf-8 encoded.*give its encoding as source.csv.encoding",
    ),
    "Latin-1 that is declared": Case(
        csv(lambda frame: frame.assign(shop="Zürich"), encoding="latin-1"),
        {"source": {"csv": {"encoding": "latin-1"}}},
        holds=lambda life: "shop_Zürich" in life.features.feature_names,
    ),
    "UTF-16 of a spreadsheet": Case(csv(sep="\t", encoding="utf-16"), {"source": {"csv": {"encoding": "utf-16"}}}),
    "a byte order mark": Case(csv(encoding="utf-8-sig", lineterminator="\r\n", sep=";")),
    "a line of two megabytes": Case(
        csv(lambda frame: frame.assign(note="x" * 2_200_000).head(3)),
        told="Maximum line size.*give source.csv.max_line_bytes",
    ),
    "a row with a field too many": Case(
        text(lambda frame: frame.to_csv(index=False) + "north,50,3,True,5\n"),
        told="a.csv.*Line: 402.*Expected Number of Columns: 4 Found: 5",
    ),
    "a row with a field too few": Case(
        text(lambda frame: frame.head(60).to_csv(index=False) + "north,50\n"),
        told=r"a\.csv.*Line: 62 Expected Number of Columns: 4 Found: 2; correct that line",
    ),
    "a row with a field too few where the delimiter is declared": Case(
        text(lambda frame: frame.head(60).to_csv(index=False) + "north,50\n"),
        {"source": {"csv": {"delimiter": ","}}},
        told=r"a\.csv cannot be read as CSV \(line 62 has 2 fields, and the header 4\); replace or remove the object",
    ),
    "row names of R": Case(
        text(lambda frame: frame.to_csv().lstrip(",")), told="Expected Number of Columns: 4 Found: 5|has no column"
    ),
    "spaces after commas": Case(
        text(
            lambda frame: (
                frame.to_csv(index=False)
                .replace(",", ", ")
                .replace("shop, weight, pieces, late", "shop,weight,pieces,late")
            )
        ),
        {"source": {"csv": {"delimiter": ","}}, "columns": {"late": {"type": "category"}}},
        holds=lambda life: life.preparation.classes == ("False", "True"),
    ),
}


def attributes(case: Case) -> dict[str, Any]:
    """The YAML of the orders, with what differs."""
    used = {name: case.rename.get(name, name) for name in COLUMNS}
    made: dict[str, Any] = {
        "model": "orders",
        "task": "binary_classification",
        "source": {"uri": "t/*.csv"},
        "target": {"column": "late"},
        "columns": {
            used["shop"]: {"type": "category"},
            used["weight"]: {"type": "number"},
            used["pieces"]: {"type": "number"},
            "late": {"type": "boolean"},
        },
        "features": {"use": list(used.values())},
        "train": {"network": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 300}},
        "gate": {"metric": "accuracy", "at_least": 0.4},
    }
    for name, value in case.yaml.items():
        merge = name in ("source", "columns", "target") and isinstance(value, dict)
        made[name] = {**made.get(name, {}), **value} if merge else value
    return made


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_broke_once_is_served_or_refused_with_the_reason(tmp_path: Path, case: Case) -> None:
    (tmp_path / "lake/t").mkdir(parents=True)
    case.files(tmp_path / "lake/t", orders())
    given = attributes(case)
    if any((tmp_path / "lake/t").glob("*.parquet")):
        given["source"]["uri"] = "t/*.parquet"
    if case.told is not None:
        with pytest.raises(MlopsError) as caught:
            live(given, tmp_path)
        assert re.search(case.told, str(caught.value), re.DOTALL), str(caught.value)
        return
    life = live(given, tmp_path)
    assert case.holds(life), life.preparation
