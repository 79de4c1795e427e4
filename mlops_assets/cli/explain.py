"""Explains an answer of then: the row as the inference log has it, by the version that answered."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.assets.logged_requests import logged_rows
from mlops_assets.cli.provenance import logged_request
from mlops_assets.cli.upkeep import outside_world
from mlops_assets.ml.errors import BadRequest, SpecError
from mlops_assets.ml.foreign_text import printable
from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.ml.inference.explain import Explanation, explain_rows
from mlops_assets.ml.inference.log_columns import DIGEST, INPUT
from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.ml.values import Value
from mlops_assets.serving.inference_protocol import RequestReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from mlops_assets.ml.inference.artifact import InputColumn, ModelSignature

SAME = 1e-4  # what is answered now and was answered then, relative to 1 and to the answer


class ExplainedAnswer(Value):
    """A row of a request, the version that answered it, and the explanation."""

    request_id: str
    model: str
    version: str
    row: int
    inputs: dict[str, float | str | None]
    explanation: Explanation


def explain(
    request_id: str, row: int, label: str | None, model: str | None, day: date | None, days: int
) -> ExplainedAnswer:
    """Explain what was answered to a row of a request.

    Raises:
        SpecError: it is not in the log, the log does not have what the version needs, or there is no such class.
        TrackingRefused: the version has lost its files.
    """
    _, tracking, lake = outside_world()
    request = logged_request(lake, tracking, request_id, model, day, days)
    answer = next((one for one in request.answers if one.role != "mirror"), request.answers[0])
    rows = [
        each for each in logged_rows(lake, request) if (each["version"], each["role"]) == (answer.version, answer.role)
    ]
    logged = next((each for each in rows if each["row"] == row), None)
    if logged is None:
        raise SpecError(f"Request {request_id} has no row {row}", remedy=f"its rows are 0 to {answer.rows - 1}")
    version = tracking.numbered(request.model, int(answer.version)) if answer.version.isdecimal() else None
    if version is None:
        what = f"MLflow has no version {answer.version} of {request.model} any more"
        raise SpecError(what, remedy="nothing else can answer as it did")
    with tempfile.TemporaryDirectory() as draft:
        graph, signature = load_artifact(tracking.download(version, Path(draft)), version.sha256)
    explanation, inputs = _explained(OnnxModel(graph), signature, logged, label)
    return ExplainedAnswer(
        request_id=request_id,
        model=request.model,
        version=answer.version,
        row=row,
        inputs=inputs,
        explanation=explanation,
    )


def _explained(
    model: OnnxModel, signature: ModelSignature, logged: dict[str, Any], label: str | None
) -> tuple[Explanation, dict[str, Any]]:
    inputs = _inputs(signature.inputs, logged)
    reader = RequestReader(signature.inputs, max_rows=len(signature.background) + len(signature.golden.rows) + 1)
    background = reader.v1({"instances": [dict(row) for row in signature.explained_from]})
    try:
        row = reader.v1({"instances": [inputs]})
        [found] = explain_rows(model, signature, row, background, _class_of(label, signature))
    except BadRequest as error:
        raise SpecError(f"The row cannot be explained: {error}", remedy="name a class of the model, or none") from error
    outputs = model.predict(row)
    now = outputs["probabilities" if signature.classes is not None else "prediction"][0].tolist()
    then = logged["output:probabilities"] if signature.classes is not None else [logged["output:prediction"]]
    if any(abs(a - b) > SAME * max(1.0, abs(b)) for a, b in zip(now, then, strict=True)):
        what = "The version answers the row of the log otherwise than it did"
        raise SpecError(
            what, remedy="columns of which a digest is kept (deploy.inference_log.hash) cannot be explained"
        )
    return found, inputs


def _inputs(columns: Sequence[InputColumn], logged: dict[str, Any]) -> dict[str, Any]:
    """What the version was asked. Files of several versions are read as one table, whose names may differ in case from
    the version's, and whose numbers are texts where another version had texts.

    Raises:
        SpecError: the log has not kept it.
    """
    known = {name.casefold(): value for name, value in logged.items()}
    digests = [column.name for column in columns if known.get(f"{DIGEST}{column.name}".casefold()) is not None]
    if digests:
        what = f"The inference log keeps a digest of {', '.join(digests)} alone"
        raise SpecError(what, remedy="deploy.inference_log.hash named them when it was asked")
    if missing := [column.name for column in columns if f"{INPUT}{column.name}".casefold() not in known]:
        what = f"The inference log does not keep {', '.join(missing)}"
        raise SpecError(what, remedy="deploy.inference_log.leave_out named them when it was asked")
    values = [(column, known[f"{INPUT}{column.name}".casefold()]) for column in columns]
    return {column.name: value if column.dtype == "string" else _as_number(value) for column, value in values}


def _as_number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _class_of(text: str | None, signature: ModelSignature) -> Any:
    """A class by its text, as answers and the log write it."""
    for known, name in zip(signature.classes or (), signature.class_texts or (), strict=True):
        if text in (name, str(known)):
            return known
    return text


def told(found: ExplainedAnswer) -> Iterator[str]:
    """Lines for people: the columns that moved the answer most first."""
    explanation = found.explanation
    what = "prediction" if explanation.label is None else f"probability of {explanation.label}"
    yield f"Request {found.request_id}, row {found.row}: version {found.version} of {found.model}"
    yield f"  {what:<28} {explanation.value:>12.6g}"
    yield f"  {'usually':<28} {explanation.base_value:>12.6g}"
    for name, value in sorted(explanation.attributions.items(), key=lambda item: -abs(item[1])):
        given = found.inputs[name]
        yield f"  {name + ' = ' + ('missing' if given in (None, '') else printable(given)):<28} {value:>+12.6g}"
