"""Labels: what fits the model is stored, and everything else is refused with its reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import BadRequest
from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.feedback import read_labels
from mlops_assets.serving.predictor import Predictor
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Predictor:
    """A regression model."""
    signature = write_artifact(tmp_path / "1")
    served = ServedVersion(folder="1", sha256=signature.sha256, version="1")
    return Predictor("m", served, tmp_path / "1")


def classifier(model: Predictor, *classes: Any) -> Predictor:
    model.signature = model.signature.model_copy(update={"classes": classes})
    return model


def read(model: Predictor, *labels: Any) -> list[Any]:
    return read_labels(json.dumps({"labels": labels}).encode(), model)


def test_a_label_of_a_number(model: Predictor) -> None:
    [found] = read(model, {"id": "a", "row": 3, "label": 2, "time": "2026-11-17T10:00:00+01:00"})
    assert (found.model, found.request_id, found.row, found.label) == ("m", "a", 3, "2.0")
    assert found.time == datetime(2026, 11, 17, 9, tzinfo=UTC)


def test_without_row_and_time_it_is_the_first_row_and_now(model: Predictor) -> None:
    [found] = read(model, {"id": "a", "label": 2})
    assert (found.row, found.time) == (0, found.received)


@pytest.mark.parametrize(
    ("classes", "given", "text"),
    [
        ((0, 1), 1, "1"),
        ((0, 1), True, "1"),
        ((False, True), 1, "1"),
        (("no", "yes"), "yes", "yes"),
        ((1.5, 2.5), 2.5, "2.5"),
        ((0, 1), 1.0, "1"),
    ],
)
def test_a_label_is_the_class_that_it_equals(model: Predictor, classes: tuple[Any, ...], given: Any, text: str) -> None:
    assert read(classifier(model, *classes), {"id": "a", "label": given})[0].label == text


WRONG: dict[str, tuple[Any, str]] = {
    "no object": (3, "labels.0: it must be an object with id and label"),
    "no id": ({"label": 1}, "it must be an object with id and label"),
    "no label": ({"id": "a"}, "it must be an object with id and label"),
    "another field": ({"id": "a", "label": 1, "model": "x"}, "it must be an object with id and label"),
    "empty id": ({"id": "", "label": 1}, "id is the id of the request"),
    "odd id": ({"id": "a b", "label": 1}, "at most 128 printable ASCII"),
    "row": ({"id": "a", "label": 1, "row": -1}, "row is -1, but must be the number of a row"),
    "row true": ({"id": "a", "label": 1, "row": True}, "row is True"),
    "time without zone": ({"id": "a", "label": 1, "time": "2026-11-17T10:00:00"}, "a moment with a time zone"),
    "no time": ({"id": "a", "label": 1, "time": "yesterday"}, "a moment with a time zone"),
    "text": ({"id": "a", "label": "1"}, "label is '1', but must be a number"),
    "truth": ({"id": "a", "label": True}, "label is True, but must be a number"),
}


@pytest.mark.parametrize(("label", "message"), WRONG.values(), ids=WRONG)
def test_a_label_that_does_not_fit_is_refused(model: Predictor, label: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(model, label)


@pytest.mark.parametrize("label", ["maybe", 1, None, ["yes"]])
def test_a_label_that_is_no_class_is_refused_with_those_that_are(model: Predictor, label: Any) -> None:
    with pytest.raises(BadRequest, match="but must be one of no, yes"):
        read(classifier(model, "no", "yes"), {"id": "a", "label": label})


@pytest.mark.parametrize(
    "body", [b"{}", b'{"labels": []}', b'{"labels": {}}', json.dumps({"labels": [1] * 10_001}).encode()]
)
def test_there_must_be_labels_and_not_too_many(model: Predictor, body: bytes) -> None:
    with pytest.raises(BadRequest, match='"labels" must be a list of 1 to 10000'):
        read_labels(body, model)
