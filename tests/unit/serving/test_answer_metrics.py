"""What Prometheus sees of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mlops_assets.serving.answer_metrics import OTHERS, PREDICTIONS, observe_answers
from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.predictor import Predictor
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    return request.node.name


def scores(model: str) -> dict[str, float]:
    """Rows up to each edge, as a scrape has them."""
    of_scores = REGISTRY.restricted_registry(["model_answer_score_bucket"])
    families = text_string_to_metric_families(generate_latest(of_scores).decode())
    samples = [sample for family in families for sample in family.samples if sample.labels.get("model") == model]
    return {s.labels["le"]: s.value for s in samples if s.name == "model_answer_score_bucket"}


def answers(model: str, label: str) -> float | None:
    return REGISTRY.get_sample_value("model_answers_total", {"model": model, "label": label})


def classified(*labels: Any, probabilities: list[list[float]]) -> dict[str, NDArray[Any]]:
    return {"label": np.array(labels), "probabilities": np.array(probabilities, np.float32)}


@pytest.mark.parametrize(
    ("label", "texts"),
    [("yes", ["no", "yes"]), (1, ["0", "1"]), (2.5, ["1.0", "2.5"])],
    ids=["texts", "whole numbers and booleans", "fractions"],
)
def test_of_two_classes_the_score_is_the_second_one_s_probability(model: str, label: Any, texts: list[str]) -> None:
    observe_answers(model, classified(label, label, probabilities=[[0.25, 0.75], [0.05, 0.95]]), texts)
    assert answers(model, texts[1]) == 2
    found = scores(model)
    assert (found["0.7"], found["0.8"], found["0.9"], found["1.0"], found["+Inf"]) == (0, 1, 1, 2, 2)


def test_of_more_classes_it_is_the_highest(model: str) -> None:
    rows = [[0.2, 0.3, 0.5], [0.9, 0.1, 0.0]]
    observe_answers(model, classified("c", "a", probabilities=rows), ["a", "b", "c"])
    found = scores(model)
    assert (found["0.4"], found["0.5"], found["0.8"], found["0.9"]) == (0, 1, 1, 2)


def test_many_classes_have_few_series(model: str) -> None:
    texts = [f"c{number}" for number in range(100)]
    observe_answers(model, classified(*texts, probabilities=np.eye(100).tolist()), texts)
    assert (answers(model, "c19"), answers(model, "c20"), answers(model, OTHERS)) == (1, None, 80)


def test_a_model_that_becomes_a_regression_counts_anew(model: str) -> None:
    observe_answers(model, classified("a", probabilities=[[0.9, 0.1]]), ["a", "b"])
    observe_answers(model, {"prediction": np.array([[3.0], [np.nan], [-7e9], [7e9]], np.float32)}, None)
    found = scores(model)
    assert (found["-1000000.0"], found["2.0"], found["5.0"], found["5e+06"], found["+Inf"]) == (1, 1, 2, 2, 3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1.8e9], ids=["rates", "minutes", "prices", "epoch seconds"])
def test_values_of_any_usual_size_fall_between_edges(model: str, scale: float) -> None:
    observe_answers(model, {"prediction": np.array([[0.3], [1.0], [2.5]]) * scale}, None)
    found = scores(model)
    assert found["5e+09"] == 3
    assert len({count for count in found.values() if count}) == 3, "each is in a part of its own"


@pytest.mark.parametrize(
    ("is_candidate", "role", "counted"),
    [
        *((False, role, 1) for role in (None, b"canary", b"mirror", b"replay")),
        *((True, role, 1) for role in (None, b"canary")),
        *((True, role, 0) for role in (b"mirror", b"replay")),
    ],
)
def test_what_callers_get_is_counted_and_they_do_not_decide_it(
    tmp_path: Path, is_candidate: bool, role: bytes | None, counted: int
) -> None:
    signature = write_artifact(tmp_path / "m")
    served = ServedVersion(folder="m", sha256=signature.sha256, version="1")
    name = f"asked as {role} of {is_candidate}"
    predictor = Predictor(name, served, tmp_path / "m", is_candidate=is_candidate)
    predictor.predict_v1(b'{"instances": [{"x": 1.5}]}', None, role)
    assert scores(name).get("+Inf", 0) == counted


@given(st.lists(st.floats(-1e7, 1e7, width=32), min_size=1, max_size=50))
def test_a_value_is_counted_up_to_each_edge_that_is_not_below_it(values: list[float]) -> None:
    model = "any values"
    before = scores(model) or dict.fromkeys(["+Inf"], 0.0)
    observe_answers(model, {"prediction": np.array(values)[:, None]}, None)
    after = scores(model)
    for edge, name in zip([*PREDICTIONS, np.inf], after, strict=True):
        assert after[name] - before.get(name, 0) == sum(value <= edge for value in values)
