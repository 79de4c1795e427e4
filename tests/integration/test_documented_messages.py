"""The tutorial's table of broken data: each row is done to its parcels, and the message is the one that it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml

from mlops_assets.ml.errors import MlopsError
from tests.documentation import PROJECT, blocks
from tests.whole_life import live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = (PROJECT / "docs" / "tutorial.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| .+? \| `(.+)` \|$", PAGE.partition("## 8.")[2].partition("## 9.")[0], re.MULTILINE)
FILES = {block.notes["file"]: block.text for block in blocks(PAGE) if "file" in block.notes}


def changed(change: Callable[[pd.DataFrame], pd.DataFrame], files: str = "2025-06.csv") -> Callable[[Path], None]:
    """A change of the rows of some files."""

    def breaks(folder: Path) -> None:
        for file in folder.glob(files):
            change(pd.read_csv(file, dtype={"items": object})).to_csv(file, index=False)

    return breaks


def with_values(column: str, values: list[Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Other values in the first rows of a column."""
    return lambda rows: rows.assign(**{column: values + list(rows[column][len(values) :])})


def write(content: bytes) -> Callable[[Path], None]:
    """Another content of the last file."""

    def breaks(folder: Path) -> None:
        (folder / "2025-06.csv").write_bytes(content)

    return breaks


def one_field_more(folder: Path) -> None:
    file = folder / "2025-06.csv"
    file.write_text(file.read_text().rstrip() + ",1\n")


def another_encoding(folder: Path) -> None:
    file = folder / "2025-06.csv"
    file.write_bytes(file.read_bytes().replace(b"anna", "ånna".encode("latin-1"), 1))


BROKEN = {
    "no files": shutil.rmtree,
    "a column is missing": changed(lambda rows: rows.drop(columns="items")),
    "text in a number column": changed(with_values("items", ["many"])),
    "an empty file": write(b""),
    "a file that is no CSV": write(bytes(range(256)) * 20),
    "a row with more or fewer fields than the header": one_field_more,
    "text that is not UTF-8": another_encoding,
    "values out of range": changed(with_values("distance_km", [400.0, 401.0, 402.0])),
    "a new category, with `values` given": changed(with_values("courier", ["eve"])),
    "one class only": changed(lambda rows: rows.assign(minutes=rows.minutes.clip(upper=40)), "*.csv"),
    "a column without any value": changed(lambda rows: rows.assign(items=None), "*.csv"),
}


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the tutorial's data."""
    folder = tmp_path_factory.mktemp("parcels")
    subprocess.run([sys.executable, "-c", FILES["make_parcels.py"]], cwd=folder, env=dict(os.environ), check=True)
    return folder / ".mlops" / "lake"


@pytest.mark.parametrize(("what", "message"), ROWS, ids=[what for what, _ in ROWS])
def test_broken_data_is_told_as_the_tutorial_says(what: str, message: str, parcels: Path, tmp_path: Path) -> None:
    shutil.copytree(parcels, tmp_path / "lake")
    BROKEN[what](tmp_path / "lake" / "parcels")
    model = yaml.safe_load(FILES["mlops_assets/defs/parcels/defs.yaml"])["attributes"]
    with pytest.raises(MlopsError) as told:
        live(model, tmp_path)
    pattern = ".*".join(map(re.escape, message.split("...")))
    assert re.fullmatch(pattern, " ".join(str(told.value).split())), str(told.value)


def test_each_row_of_the_table_is_tried() -> None:
    assert {what for what, _ in ROWS} == set(BROKEN)
