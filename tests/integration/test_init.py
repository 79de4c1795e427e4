"""A YAML that `mlops-assets init` writes runs: tables of scikit-learn under odd names, from the file to an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from mlops_assets.cli.draft import init
from mlops_assets.spec.load_spec import load_spec
from tests.support import messages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support import Platform


def breast_cancer(file: Path) -> str:
    """Names with brackets and dots, an index of pandas, a constant, labels as text."""
    bundle: Any = load_breast_cancer(as_frame=True)
    table = bundle.data.rename(columns=lambda name: name.replace(" ", ".(", 1) + ")")
    table["yes"], table["diagnosis?"] = 1, bundle.target_names[bundle.target]
    table.to_csv(file)
    return "diagnosis?"


def wine(file: Path) -> str:
    """A key of the rows, a time, a missing value, names that are words of SQL."""
    table: Any = load_wine(as_frame=True).frame  # pyright: ignore[reportAttributeAccessIssue]
    table = table.rename(columns={"target": "class.of:wine", "hue": "select"})
    table["id#"] = [f"w{row:03}" for row in range(len(table))]
    table["when"] = pd.date_range("2020-01-01", periods=len(table))
    table.loc[3, "alcohol"] = None
    table.to_parquet(file)
    return "class.of:wine"


def diabetes(file: Path) -> str:
    """Semicolons and decimal commas, German dates, codes with zeros in front, rows without a target."""
    table: Any = load_diabetes(as_frame=True).frame  # pyright: ignore[reportAttributeAccessIssue]
    table["sex"] = np.where(table["sex"] > 0, "ja", "nein")
    table["on"] = np.arange(len(table)) % 3
    table["Datum"] = pd.date_range("2020-01-01", periods=len(table)).strftime("%d.%m.%Y")
    table["PLZ"] = [f"0{1000 + row % 5}" for row in range(len(table))]
    table.loc[:10, "target"] = None
    table.to_csv(file, index=False, sep=";", decimal=",")
    return "target"


@pytest.mark.parametrize(
    ("write", "name"), [(breast_cancer, "my data.csv"), (wine, "wine [1].parquet"), (diabetes, "diabetes.csv.gz")]
)
def test_a_file_is_a_served_model_after_init(
    platform: Platform, tmp_path: Path, write: Callable[[Path], str], name: str
) -> None:
    file, out = tmp_path / name, tmp_path / "out"
    target = write(file)
    list(init(platform.model, file, target, out, platform.lake))
    spec = load_spec(yaml.safe_load((out / "defs.yaml").read_text())["attributes"], None, "defs.yaml")
    result = platform.run(spec)
    assert result.success, messages(result)
    assert platform.champion() == 1
