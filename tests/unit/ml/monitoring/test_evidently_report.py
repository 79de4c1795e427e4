"""The page that Evidently makes, and the sample that stands for the reference in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.monitoring.column_profile import EXACT_ROWS
from mlops_assets.ml.monitoring.evidently_report import SAMPLE_ROWS, sample_of, write_evidently_report
from mlops_assets.ml.monitoring.log_window import open_window
from tests.log_tables import log_table, weather_reference
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path


def test_the_sample_of_a_large_reference_is_distributed_as_it_was(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path, rows=20_000), weather(20_000)
    pressure = sample_of(reference.features["pressure"])
    assert len(pressure) == SAMPLE_ROWS
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert np.quantile(pressure, share) == pytest.approx(rows["pressure"].quantile(share), abs=0.1)
    place = sample_of(reference.features["place"])
    assert (place == "Bern").mean() == pytest.approx((rows["place"] == "Bern").mean(), abs=0.001)


def test_the_sample_of_a_small_reference_is_all_of_it(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path, rows=EXACT_ROWS), weather(EXACT_ROWS)
    expected = np.sort(rows["pressure"].to_numpy(np.float32))
    np.testing.assert_array_equal(sample_of(reference.features["pressure"]).astype(np.float32), expected)


def test_the_page_has_each_column_and_needs_nothing_from_a_network(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(800, seed=1)
    rows["humidity"] = np.nan  # Evidently refuses what has no value
    with open_window([log_table(tmp_path / "day", rows)]) as window:
        answerer = window.answerer()
        assert answerer is not None
        sample = window.sample(answerer, list(reference.features), reference, SAMPLE_ROWS)
    profiles = reference.features | {f"output:{name}": column for name, column in reference.predictions.items()}
    write_evidently_report(profiles, sample, tmp_path / "evidently.html")
    page = (tmp_path / "evidently.html").read_text()
    assert all(name in page for name in ("pressure", "place", "output:label", "output:score"))
    assert '"humidity"' not in page
    assert '<script src="http' not in page


def test_what_callers_send_as_a_category_does_not_become_a_part_of_the_page(tmp_path: Path) -> None:
    reference, rows = weather_reference(tmp_path), weather(800, seed=1)
    rows.loc[:400, "place"] = "</script><script>alert(1)</script>"
    with open_window([log_table(tmp_path / "day", rows)]) as window:
        answerer = window.answerer()
        assert answerer is not None
        sample = window.sample(answerer, ["place"], reference, SAMPLE_ROWS)
    write_evidently_report({"place": reference.features["place"]}, sample, tmp_path / "evidently.html")
    page = (tmp_path / "evidently.html").read_text()
    assert "<script>alert(1)" not in page
    assert "alert(1)" in page


def test_a_column_of_any_name_does_not_become_a_part_of_the_page_either(tmp_path: Path) -> None:
    place = weather_reference(tmp_path).features["place"]
    script, long = "</script><script>alert(1)</script>", "x" * 200
    columns = [script, f"{long}a", f"{long}b", "place"]
    window = pd.DataFrame(dict.fromkeys(columns, weather(800, seed=1)["place"]))
    write_evidently_report(dict.fromkeys(columns, place), window, tmp_path / "evidently.html")
    page = (tmp_path / "evidently.html").read_text()
    assert "<script>alert(1)" not in page
    assert all(name in page for name in ("alert(1)", '"place', f"{'x' * 97}..."))


def test_columns_whose_names_become_the_same_are_told_apart(tmp_path: Path) -> None:
    place = weather_reference(tmp_path).features["place"]
    columns = ["a( (2)", "a<", "a("]
    window = pd.DataFrame(dict.fromkeys(columns, weather(800, seed=1)["place"]))
    write_evidently_report(dict.fromkeys(columns, place), window, tmp_path / "evidently.html")
    page = (tmp_path / "evidently.html").read_text()
    assert all(f'"{name}' in page for name in ("a(", "a( (2)", "a( (3)"))
