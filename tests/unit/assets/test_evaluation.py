"""evaluation: what the gate says, by how much it was missed, and how slices are shown."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_assets.assets.evaluation import check_question, gate_check, slices_table
from mlops_assets.ml.data.contract import Target
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.evaluation.evaluate import EvaluationReport, Slice
from mlops_assets.spec.model_spec import Gate
from tests.support import prepared, spec

ACCURACY, RMSE = Gate(metric="accuracy", at_least=0.9), Gate(metric="rmse", at_most=2.0)

AUC = Gate(metric="roc_auc", at_least=0.8)


def evaluated(gate: Gate, value: float) -> EvaluationReport:
    is_regression = gate.metric == "rmse"
    return EvaluationReport(
        task="regression" if is_regression else "binary_classification",
        classes=None if is_regression else (False, True),
        rows=40,
        metrics={gate.metric: value},
        slices=(),
        importance={},
    )


@pytest.mark.parametrize(
    ("gate", "value", "text"),
    [
        (ACCURACY, 0.9, "accuracy is 0.9000, wanted at least 0.9: passed"),
        (ACCURACY, 0.85, "accuracy is 0.8500, wanted at least 0.9: missed by 0.0500; registry and endpoint stay"),
        (RMSE, 1.5, "rmse is 1.5000, wanted at most 2: passed"),
        (RMSE, 2.25, "rmse is 2.2500, wanted at most 2: missed by 0.2500"),
    ],
)
def test_the_gate_says_what_it_wanted_and_by_how_much_it_was_missed(gate: Gate, value: float, text: str) -> None:
    result = gate_check(gate, evaluated(gate, value))
    assert result.passed is ("passed" in text)
    assert result.description is not None
    assert result.description.startswith(text)


def test_a_metric_that_is_not_defined_does_not_pass_and_says_so() -> None:
    result = gate_check(AUC, evaluated(AUC, float("nan")))
    assert not result.passed
    assert result.description is not None
    assert result.description.startswith("roc_auc of class True is not defined on these 40 rows")
    assert "so the gate is not passed; registry and endpoint stay as they are" in result.description


def test_the_gate_names_the_class_that_its_metric_is_about() -> None:
    assert (
        gate_check(AUC, evaluated(AUC, 0.9)).description
        == "roc_auc of class True is 0.9000, wanted at least 0.8: passed"
    )


def test_slices_are_a_table_of_the_gates_metric() -> None:
    part = Slice(column="place", value="Bern", rows=40, metrics={"accuracy": 0.875})
    report = EvaluationReport(
        task="binary_classification", classes=(0, 1), rows=40, metrics={}, slices=(part,), importance={}
    )
    assert slices_table(report, ACCURACY).splitlines()[-1] == "| `place = Bern` | 40 | 0.8750 |"
    assert slices_table(report.model_copy(update={"slices": ()}), ACCURACY) == "no slices"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"target": Target(column="place")},
            "The model predicts rain, and the YAML asks for place; materialize the whole group",
        ),
        ({"task": "regression"}, "The model was not made for regression"),
    ],
)
def test_a_model_is_not_judged_by_a_question_that_it_was_not_made_for(changed: dict[str, Any], message: str) -> None:
    rows = prepared()
    check_question(spec(), rows)
    with pytest.raises(DataError, match=message):
        check_question(spec().model_copy(update=changed), rows)
