"""`mlops-assets init`: the YAML fits the file, says what was guessed, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from mlops_assets.cli.draft import init
from mlops_assets.cli.program import main
from mlops_assets.ml.errors import DataError, SpecError
from mlops_assets.spec.json_schema import schema
from mlops_assets.spec.load_spec import load_spec
from resources.lake.lake import Lake

if TYPE_CHECKING:
    from mlops_assets.spec.model_spec import ModelSpec

TABLE = pd.DataFrame(
    {
        "id": [f"c{row}" for row in range(100)],
        "opening balance (CHF)": [row * 1.5 if row % 10 else None for row in range(100)],
        "select": ["a", "b", "c", "d"] * 25,
        "on": [row % 3 for row in range(100)],
        "at": pd.date_range("2025-01-01", periods=100),
        "left": ["stays", "goes"] * 50,
        "price": [row**1.5 for row in range(100)],
        "stars": [1, 2, 3, 4, 5] * 20,
        "calls": [0, 1, 2] * 32 + [3, 4, 5, 9],  # counts, of which the greatest are rare
    }
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


def written(folder: Path, name: str = "customers 1.csv", table: pd.DataFrame = TABLE) -> Path:
    file = folder / name
    if name.endswith(".parquet"):
        table.to_parquet(file, index=False)
    else:
        table.to_csv(file, index=False)
    return file


def made(lake: Lake, file: Path, target: str) -> tuple[ModelSpec, str]:
    out = file.parent / "out"
    list(init("churn", file, target, out, lake))
    text = (out / "defs.yaml").read_text()
    content = yaml.safe_load(text)
    jsonschema.validate(content, schema())
    return load_spec(content["attributes"], None, "defs.yaml"), text


@pytest.mark.parametrize("name", ["customers 1.csv", "a.csv.gz", "[odd].parquet"])
def test_the_contract_fits_the_file_and_the_file_lies_where_the_model_reads(
    tmp_path: Path, lake: Lake, name: str
) -> None:
    spec, _ = made(lake, written(tmp_path, name), "left")
    assert [item.key for item in lake.list_sources(spec.source.uri)] == [f"churn/{name}"]
    assert {name: (column.type, column.nullable) for name, column in spec.columns.items()} == {
        "opening balance (CHF)": ("number", True),
        "select": ("category", False),
        "on": ("number", False),
        "at": ("timestamp", False),
        "left": ("category", False),
        "price": ("number", False),
        "stars": ("number", False),
        "calls": ("number", False),
    }
    assert spec.features.use == ("opening balance (CHF)", "select", "on", "price", "stars", "calls")


def test_what_is_left_out_and_guessed_stands_in_comments(tmp_path: Path, lake: Lake) -> None:
    _, text = made(lake, written(tmp_path), "left")
    for comment in (
        "# not id: each row has another value",
        "# not at: it is a time",
        "# guessed: left has 2 different values",
        "# missing in 10 rows",
        "# event_time: at # when that is the time of the row",
        "# Guessing gives 0.5, never being wrong 1.",
    ):
        assert comment in text


@pytest.mark.parametrize(
    ("target", "task", "metric", "threshold"),
    [
        ("left", "binary_classification", "roc_auc", 0.6),
        ("select", "multiclass_classification", "accuracy", 0.4),
        ("stars", "multiclass_classification", "accuracy", 0.36),
        ("price", "regression", "r2", 0.1),
        ("calls", "regression", "r2", 0.1),
    ],
)
def test_task_and_gate_are_guessed_from_the_target(
    tmp_path: Path, lake: Lake, target: str, task: str, metric: str, threshold: float
) -> None:
    spec, _ = made(lake, written(tmp_path), target)
    assert (spec.task, spec.gate.metric, spec.gate.threshold) == (task, metric, threshold)


def test_many_rows_without_a_target_may_be_dropped(tmp_path: Path, lake: Lake) -> None:
    table = TABLE.assign(price=TABLE.price.where(TABLE.index % 2 == 0))
    spec, text = made(lake, written(tmp_path, table=table), "price")
    assert not spec.columns["price"].nullable
    assert spec.prepare.max_dropped == 0.55
    assert "# missing in 50 rows, which are dropped" in text


def test_the_dialect_stands_in_the_yaml(tmp_path: Path, lake: Lake) -> None:
    file = tmp_path / "a.csv"
    TABLE.to_csv(file, index=False, sep=";", decimal=",")
    spec, _ = made(lake, file, "left")
    assert (spec.source.csv.delimiter, spec.source.csv.decimal) == (";", ",")
    assert spec.columns["price"].type == "number"


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("9lives", "left", "cannot be a model's name"),
        ("churn", "lift", "there is no such column (did you mean left?)"),
        ("churn", "at", "at is a time, which cannot be predicted"),
        ("churn", "id", "id cannot be predicted: each row has another value"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(
    tmp_path: Path, lake: Lake, name: str, target: str, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        list(init(name, written(tmp_path), target, tmp_path / "out", lake))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "lake").exists() or not any((tmp_path / "lake").rglob("*.csv"))


def test_a_file_whose_first_line_is_no_header_is_told(tmp_path: Path, lake: Lake) -> None:
    rows = "".join(f"{row},{row % 2}\n" for row in range(40))
    (tmp_path / "a.csv").write_text(f"Report created 2024-01-01\n\nx,y\n{rows}")
    with pytest.raises(
        (SpecError, DataError), match="one column alone, 'Report created 2024-01-01'.*first line|line 3"
    ):
        list(init("churn", tmp_path / "a.csv", "y", tmp_path / "out", lake))


def test_more_classes_than_can_be_are_told(tmp_path: Path, lake: Lake) -> None:
    table = pd.DataFrame({"x": range(400), "y": [f"k{row % 200}" for row in range(400)]})
    with pytest.raises(SpecError, match="y has 200 different values, and classes may be 100; put rare ones together"):
        list(init("churn", written(tmp_path, table=table), "y", tmp_path / "out", lake))


def test_a_file_of_another_kind_is_told(tmp_path: Path, lake: Lake) -> None:
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(SpecError, match=r"give a file that ends with \.parquet, \.csv, \.csv\.gz"):
        list(init("churn", tmp_path / "a.xlsx", "left", None, lake))


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, lake: Lake) -> None:
    file = written(tmp_path)
    made(lake, file, "left")
    with pytest.raises(SpecError, match=r"defs\.yaml is there already"):
        list(init("churn", file, "left", tmp_path / "out", lake))
    list(init("churn", file, "left", tmp_path / "second", lake))  # the same file may be named again
    written(tmp_path, table=TABLE.assign(price=1.0))
    with pytest.raises(SpecError, match="the lake has another file at churn/customers 1.csv"):
        list(init("churn", file, "left", tmp_path / "third", lake))
    with pytest.raises(SpecError, match="the lake has another file for this name"):
        list(init("churn", written(tmp_path, "b.csv"), "left", tmp_path / "fourth", lake))


def test_it_says_what_was_done_and_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    given: Any = ["init", "churn", written(tmp_path), "--target", "left", "--out", tmp_path / "out"]
    result = CliRunner().invoke(main, list(map(str, given)))
    assert result.exit_code == 0
    assert "100 rows, in the lake as churn/customers 1.csv" in result.output
    assert f"mlops-assets check {tmp_path}/out" in result.output
    assert "dagster job execute -m mlops_assets.definitions -j churn" in result.output
    head = (tmp_path / "out/defs.yaml").read_text().splitlines()[0]
    named = head.removeprefix("# yaml-language-server: $schema=")
    assert (tmp_path / "out" / named).resolve() == Path(__file__).parents[3] / "docs/model.schema.json"


def test_a_guessed_mark_of_thousands_is_said_to_be_a_guess(tmp_path: Path, lake: Lake) -> None:
    table = TABLE.assign(turnover=[f"{1_000 + 7 * row:,}.50" for row in range(100)])
    spec, text = made(lake, written(tmp_path, table=table), "turnover")
    assert spec.source.csv.thousands == ","
    assert spec.task == "regression"
    assert 'csv: {thousands: ","} # guessed: 1,234 is more than a thousand' in text
