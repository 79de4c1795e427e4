"""The report of a preparation: it is kept beside the rows, and read back as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.data.preparation import Preparation
from tests.preparation import prepare_frames
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path


def test_the_report_lies_beside_the_parts(tmp_path: Path) -> None:
    report = prepare_frames(tmp_path, [weather()])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.parquet", "test.parquet", "report.json"}
    assert Preparation.read(tmp_path / "out") == report


def test_every_row_that_was_read_is_accounted_for(tmp_path: Path) -> None:
    report = prepare_frames(tmp_path, [weather()])
    dropped = report.rows_outside_window + report.rows_with_nulls + report.duplicates
    assert report.rows_read == dropped + report.train_rows + report.test_rows == 400
    assert 0 < report.validation_rows < report.train_rows
