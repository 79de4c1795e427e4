"""An exported model judged on the test set, by a graph whose answers are known: it doubles its one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.errors import ArtifactError, TrainingError
from mlops_assets.ml.evaluation import evaluate as evaluation
from mlops_assets.ml.evaluation.evaluate import EvaluationReport, by_class, evaluate, measure, unfit_inputs
from mlops_assets.ml.evaluation.model_card import model_card
from mlops_assets.ml.inference.artifact import GoldenRows, InputColumn, ModelSignature
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


@pytest.mark.parametrize("kind", ["category", "boolean"])
def test_slices_are_called_by_their_values_and_what_is_missing_is_said(tmp_path: Path, kind: str) -> None:
    values = {"category": ["a", "", None], "boolean": [True, False, None]}[kind]
    rows = 40 * len(values)
    frame = pd.DataFrame({"x": np.arange(rows, dtype=np.float32), "y": np.arange(rows) * 2.0, "s": values * 40})
    frame["s"] = frame.s.astype("boolean" if kind == "boolean" else object)
    (tmp_path / "prepared").mkdir()
    frame.to_parquet(tmp_path / "prepared/test.parquet")
    signature = write_artifact(tmp_path / "model")
    report, _ = evaluate(tmp_path / "model", signature.sha256, tmp_path / "prepared", target="y", slices=["s"])
    wanted = {"category": {"(missing)": 80, "a": 40}, "boolean": {"(missing)": 40, "False": 40, "True": 40}}[kind]
    assert {part.value: part.rows for part in report.slices} == wanted


def test_a_slice_whose_truth_does_not_vary_has_a_metric_that_is_not_defined(tmp_path: Path) -> None:
    place = np.array(["Bern"] * 100 + ["Basel"] * 50)
    frame = pd.DataFrame({"x": np.arange(150, dtype=np.float32), "place": place})
    frame["y"] = np.where(place == "Basel", 0.0, 2.0 * frame.x)
    (tmp_path / "prepared").mkdir()
    frame.to_parquet(tmp_path / "prepared/test.parquet")
    signature = write_artifact(tmp_path / "model")
    report, _ = evaluate(tmp_path / "model", signature.sha256, tmp_path / "prepared", target="y", slices=["place"])
    report.write(tmp_path)
    read = EvaluationReport.read(tmp_path)
    assert [np.isnan(part.metrics["r2"]) for part in read.slices] == [False, True]
    card = model_card("w", "", (), read)
    assert "nan" not in card
    assert "- `place = Basel`: rmse" in card


def test_answers_that_are_no_numbers_are_told(tmp_path: Path, prepared: Path) -> None:
    signature = write_artifact(tmp_path / "model", factor=float("inf"))
    with pytest.raises(TrainingError, match=r"answers NaN or infinity for 500 of 500 test rows; change train\.params"):
        evaluate(tmp_path / "model", signature.sha256, prepared, target="y")


def test_small_batches_give_the_same_importance(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = write_artifact(tmp_path / "model")
    whole, _ = evaluate(tmp_path / "model", signature.sha256, prepared, target="y")
    monkeypatch.setattr(evaluation, "BATCH_ROWS", 33)
    parts, _ = evaluate(tmp_path / "model", signature.sha256, prepared, target="y")
    assert parts.importance == pytest.approx(whole.importance)


def test_the_metrics_of_a_champion_are_those_of_its_report(tmp_path: Path, prepared: Path) -> None:
    signature = write_artifact(tmp_path / "model")
    report, _ = evaluate(tmp_path / "model", signature.sha256, prepared, target="y")
    assert measure(tmp_path / "model", signature.sha256, prepared, target="y") == report.metrics


def test_probabilities_go_to_the_class_of_the_same_name() -> None:
    answers = np.array([[0.1, 0.9], [0.7, 0.3]], dtype=np.float32)
    np.testing.assert_array_equal(by_class(answers, (False, True), (True, False)), answers[:, ::-1])
    added = by_class(answers, ("a", "c"), ("a", "b", "c"))
    np.testing.assert_array_equal(added, np.insert(answers, 1, 0, axis=1))
    np.testing.assert_array_equal(by_class(added, ("a", "b", "c"), ("c", "a")), answers[:, ::-1])
    gone = by_class(np.array([[0.2, 0.5, 0.3]]), ("a", "b", "c"), ("a", "c", "z"))
    np.testing.assert_allclose(gone, [[0.2 + 0.5 / 3, 0.3 + 0.5 / 3, 0.5 / 3]])


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (InputColumn(name="gone", dtype="float32"), "it reads gone, which the data lacks now"),
        (InputColumn(name="place", dtype="float32"), "it reads place as a number, which is a category now"),
        (InputColumn(name="x", dtype="string"), "it reads x as a category, which is a number now"),
        (InputColumn(name="gap", dtype="float32"), "it needs a value of gap in every row, which may be missing now"),
    ],
)
def test_rows_that_a_model_would_read_wrongly_are_told(prepared: Path, column: InputColumn, reason: str) -> None:
    frame = pd.read_parquet(prepared / "test.parquet")
    frame.assign(gap=frame.x.where(frame.x > 0)).to_parquet(prepared / "test.parquet")
    assert unfit_inputs(reading(column), prepared) == [reason]
    assert unfit_inputs(reading(InputColumn(name="gap", dtype="float32", nullable=True)), prepared) == []


def reading(column: InputColumn) -> ModelSignature:
    golden = GoldenRows(rows=(), outputs={})
    return ModelSignature(model="m", task="regression", inputs=(column,), classes=None, sha256="s", golden=golden)


def test_the_positive_class_of_a_binary_task_is_the_second_one() -> None:
    report = EvaluationReport(
        task="binary_classification", classes=("no", "yes"), rows=1, metrics={}, slices=(), importance={}
    )
    assert report.positive == "yes"
    assert report.model_copy(update={"classes": ("a", "b", "c")}).positive is None
    assert "- positive class: `yes`" in model_card("m", "", [], report)
