"""An exported model judged on the test set, by a graph whose answers are known: it doubles its one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.ml.evaluation import evaluate as evaluation
from mlops_assets.ml.evaluation.evaluate import EvaluationReport, evaluate
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 500


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A test set in which y is 2x, but for the 30 rows of Basel, where it is 2x + 3."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    place = np.array(["Bern"] * 460 + ["Basel"] * 30 + ["Chur"] * 10)
    frame = pd.DataFrame({"x": x, "y": 2 * x + 3 * (place == "Basel"), "place": place})
    frame.to_parquet(folder / "test.parquet")
    return folder


def test_metrics_and_predictions_are_those_of_the_graph(tmp_path: Path, prepared: Path) -> None:
    signature = write_artifact(tmp_path / "model", factor=2.0)
    report, predictions = evaluate(tmp_path / "model", signature.sha256, prepared, target="y")
    frame = pd.read_parquet(prepared / "test.parquet")
    np.testing.assert_allclose(predictions.scores, 2 * frame.x)
    np.testing.assert_array_equal(predictions.truth, frame.y)
    assert (report.task, report.rows, report.slices) == ("regression", ROWS, ())
    assert report.metrics["mae"] == pytest.approx(3 * 30 / ROWS, rel=1e-5)


def test_slices_are_the_values_with_enough_rows_the_most_frequent_first(tmp_path: Path, prepared: Path) -> None:
    signature = write_artifact(tmp_path / "model")
    report, _ = evaluate(tmp_path / "model", signature.sha256, prepared, target="y", slices=["place"])
    assert [(part.value, part.rows) for part in report.slices] == [("Bern", 460), ("Basel", 30)]
    assert report.slices[0].metrics["rmse"] == pytest.approx(0, abs=1e-5)
    assert report.slices[1].metrics["rmse"] == pytest.approx(3, rel=1e-5)


def test_a_column_matters_when_shuffling_it_makes_the_loss_worse(tmp_path: Path, prepared: Path) -> None:
    used, unused = write_artifact(tmp_path / "used", factor=2.0), write_artifact(tmp_path / "unused", factor=0.0)
    [gain] = evaluate(tmp_path / "used", used.sha256, prepared, target="y")[0].importance.values()
    [none] = evaluate(tmp_path / "unused", unused.sha256, prepared, target="y")[0].importance.values()
    assert gain > 1
    assert none == 0


def test_batches_change_nothing(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = write_artifact(tmp_path / "model")
    whole, _ = evaluate(tmp_path / "model", signature.sha256, prepared, target="y", slices=["place"])
    monkeypatch.setattr(evaluation, "IMPORTANCE_ROWS", 64)
    monkeypatch.setattr(evaluation, "BATCH_ROWS", 64)
    parts, _ = evaluate(tmp_path / "model", signature.sha256, prepared, target="y", slices=["place"])
    assert (parts.metrics, parts.slices, parts.rows) == (whole.metrics, whole.slices, whole.rows)


def test_an_artifact_of_another_digest_is_not_judged(tmp_path: Path, prepared: Path) -> None:
    write_artifact(tmp_path / "model")
    with pytest.raises(ArtifactError, match="digest"):
        evaluate(tmp_path / "model", "0" * 64, prepared, target="y")


def test_a_report_is_read_as_it_was_written(tmp_path: Path, prepared: Path) -> None:
    signature = write_artifact(tmp_path / "model")
    report, _ = evaluate(tmp_path / "model", signature.sha256, prepared, target="y", slices=["place"])
    report.write(tmp_path)
    assert EvaluationReport.read(tmp_path) == report
    assert evaluation.test_columns(prepared) == {"x", "y", "place"}
