"""Raw rows to train and test rows: what is kept, what is dropped, and what stops the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from mlops_assets.ml.data.contract import Prepare, Target
from mlops_assets.ml.errors import DataError
from tests.preparation import part, plan, prepare_frames
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path


def test_parquet_and_csv_give_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    prepare_frames(tmp_path / "a", [weather()])
    prepare_frames(tmp_path / "b", [weather()], suffix="csv.gz")
    columns = ["pressure", "humidity", "place"]
    frames = [
        pd.concat([part(tmp_path / folder, name) for name in ("train", "test")]).sort_values(columns, ignore_index=True)
        for folder in "ab"
    ]
    pd.testing.assert_frame_equal(*frames)


def test_many_files_need_no_more_memory_than_one(tmp_path: Path) -> None:
    """DuckDB holds a buffer of 30 MiB for each read of a CSV file by itself."""
    report = prepare_frames(tmp_path, [weather(20, seed) for seed in range(100)], suffix="csv")
    assert report.rows_read == 2_000


def test_rows_are_counted_by_why_they_were_dropped(tmp_path: Path) -> None:
    frame = weather(300)
    frame.loc[:9, "pressure"] = np.nan
    frame.loc[10:14, "rain"] = None
    frame = pd.concat([frame, frame.iloc[50:70]], ignore_index=True)
    report = prepare_frames(tmp_path, [frame], plan(prepare=Prepare(drop_duplicates=True)))
    assert (report.rows_read, report.rows_with_nulls, report.duplicates) == (320, 15, 20)
    assert report.train_rows + report.test_rows == 285


def test_a_target_expression_and_its_classes(tmp_path: Path) -> None:
    report = prepare_frames(tmp_path, [weather()], plan(target=Target(column="low", from_="pressure < 1013")))
    assert report.classes == (False, True)
    train = part(tmp_path, "train")
    assert ((train.pressure < 1013).astype(int) == train.low).all()


UNUSABLE = {
    "all null": (lambda frame: frame.assign(humidity=np.nan), "humidity has no value in any of 400 rows"),
    "one class": (lambda frame: frame.assign(rain=True), "has only the class True"),
    "no complete row": (
        lambda frame: frame.assign(place=[None, *["x"] * 399], pressure=[1000.0, *[None] * 399]),
        "0 rows|None of",
    ),
    "a class in one part": (lambda frame: frame.assign(rain=[True, *[False] * 399]), "no row of class True"),
}


@pytest.mark.parametrize(("change", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_data_that_cannot_be_learnt_from_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare_frames(tmp_path, [change(weather())])


def test_a_target_that_cannot_be_computed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"target.from: .*cannot be computed"):
        prepare_frames(tmp_path, [weather()], plan(target=Target(column="t", from_="pressure > 'a'")))


def test_the_target_expression_cannot_read_files(tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret.csv"
    secret.write_text("a\n1\n")
    expression = f"pressure > (SELECT count(*) FROM read_csv('{secret}'))"
    with pytest.raises(ValidationError, match="has a subquery; give one expression over the columns of a row"):
        prepare_frames(tmp_path, [weather()], plan(target=Target(column="t", from_=expression)))
