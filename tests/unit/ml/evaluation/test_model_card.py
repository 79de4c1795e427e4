"""The model card: what a reader must find on it."""

from __future__ import annotations

from mlops_assets.ml.evaluation.evaluate import EvaluationReport, Slice
from mlops_assets.ml.evaluation.model_card import model_card

REPORT = EvaluationReport(
    task="regression",
    classes=None,
    rows=12_345,
    metrics={"rmse": 1.5, "r2": 0.75},
    slices=tuple(
        Slice(column="place", value=place, rows=40, metrics={"rmse": rmse})
        for place, rmse in (("Bern", 1.0), ("Basel", 9.0), ("Chur", 3.0), ("Genève", 2.0))
    ),
    importance={"humidity": 0.1, "pressure": 2.0},
)


def test_the_card_says_what_the_model_is_for_and_how_good_it_is() -> None:
    card = model_card("weather", "How much rain will fall?", ["team:sky", "a@b.ch"], REPORT)
    assert card.startswith("# weather\n\nHow much rain will fall?\n")
    assert "- task: regression\n- owners: team:sky, a@b.ch\n" in card
    assert "12,345 held-out rows" in card
    assert "| rmse | 1.5000 |\n| r2 | 0.7500 |" in card


def test_columns_come_by_how_much_they_matter_and_slices_by_how_weak_they_are() -> None:
    card = model_card("weather", "", (), REPORT)
    assert "| pressure | +2.0000 |\n| humidity | +0.1000 |" in card
    assert [line.split(":")[0] for line in card.partition("weakest")[2].splitlines() if line] == [
        "- `place = Basel`",
        "- `place = Chur`",
        "- `place = Genève`",
    ]


def test_what_is_not_known_is_said_or_left_out() -> None:
    card = model_card("weather", "", (), REPORT.model_copy(update={"slices": ()}))
    assert "No description." in card
    assert "- owners: none" in card
    assert "weakest" not in card
    assert "classes" not in card


def test_a_classifier_shows_its_classes() -> None:
    report = REPORT.model_copy(
        update={"task": "binary_classification", "classes": (False, True), "slices": (), "metrics": {"accuracy": 1.0}}
    )
    card = model_card("w", "", (), report)
    assert (
        "- task: binary classification\n- owners: none\n- classes: `False`, `True`\n- positive class: `True` (" in card
    )


def test_the_class_that_the_metrics_are_about_is_named() -> None:
    update = {"task": "binary_classification", "classes": ("legit", "fraud"), "slices": (), "metrics": {"recall": 0.4}}
    report = REPORT.model_copy(update=update)
    card = model_card("w", "", (), report)
    assert report.positive == "fraud"
    assert "- positive class: `fraud` (precision, recall, f1, roc_auc, pr_auc, brier are about it)" in card
    assert REPORT.positive is None


def test_a_metric_that_is_not_defined_is_called_so() -> None:
    report = REPORT.model_copy(update={"metrics": {"rmse": 1.5, "r2": float("nan")}})
    assert "| r2 | not defined |" in model_card("w", "", (), report)
