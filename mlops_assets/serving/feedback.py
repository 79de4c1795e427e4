"""The route that takes labels: what turned out to be true of rows that were asked about."""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from mlops_assets.ml.errors import BadRequest
from mlops_assets.serving.inference_protocol import parse_json, request_id_of
from mlops_assets.serving.log_files import Label

if TYPE_CHECKING:
    from mlops_assets.serving.inference_log import InferenceLog
    from mlops_assets.serving.predictor import Predictor

MAX_LABELS, MAX_LABEL_BYTES = 10_000, 4 << 20
FIELDS = {"id", "row", "label", "time"}
MOMENT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)
log = logging.getLogger("mlops_assets.serving")


def read_labels(body: bytes, model: Predictor) -> list[Label]:
    """The labels in `{"labels": [{"id": ..., "row": 0, "label": ..., "time": "2026-11-17T09:00:00Z"}, ...]}`.

    `row` is the number of the row in its request, 0 where it is not given; `time` is now where it is not given.

    Raises:
        BadRequest: a label does not fit the model.
    """
    given = parse_json(body).get("labels")
    if not isinstance(given, list) or not 0 < len(given) <= MAX_LABELS:
        raise BadRequest(f'"labels" must be a list of 1 to {MAX_LABELS} objects, {{id, row, label, time}}')
    received = datetime.now(UTC)
    return [_label(entry, f"labels.{index}", model, received) for index, entry in enumerate(given)]


def _label(entry: Any, where: str, model: Predictor, received: datetime) -> Label:
    if not isinstance(entry, dict) or not {"id", "label"} <= entry.keys() <= FIELDS:
        raise BadRequest("it must be an object with id and label, and row and time where they are known", where=where)
    request_id, row = request_id_of(entry["id"]), entry.get("row", 0)
    if request_id is None:
        raise BadRequest("id is the id of the request that was asked", where=where)
    if type(row) is not int or not 0 <= row < 2**31:
        raise BadRequest(f"row is {row!r}, but must be the number of a row in its request", where=where)
    try:
        moment = MOMENT.validate_python(entry["time"]).astimezone(UTC) if "time" in entry else received
    except (ValidationError, OverflowError):
        raise BadRequest("time must be a moment with a time zone, such as 2026-11-17T09:00:00Z", where=where) from None
    return Label(model.name, request_id, row, _text(entry["label"], where, model), moment, received)


def _text(label: Any, where: str, model: Predictor) -> str:
    classes, texts = model.signature.classes, model.signature.class_texts
    if classes is None or texts is None:
        if isinstance(label, bool) or not isinstance(label, (int, float)) or not math.isfinite(label):
            raise BadRequest(f"label is {label!r}, but must be a number", where=where)
        return repr(float(label))
    if isinstance(label, bool) and label not in classes:
        label = int(label)
    for known, text in zip(classes, texts, strict=True):
        if label == known and isinstance(label, str) == isinstance(known, str):
            return text
    shown = ", ".join(texts[:10])
    raise BadRequest(f"label is {label!r}, but must be one of {shown}", where=where)


async def store_labels(labels: list[Label], inference_log: InferenceLog) -> bool:
    """Store labels; False when the lake is away."""
    try:
        await asyncio.to_thread(inference_log.store_labels, labels)
    except Exception as error:
        log.warning("labels of %s cannot be stored: %s", labels[0].model, error)
        return False
    return True
