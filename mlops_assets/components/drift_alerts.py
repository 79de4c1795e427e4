"""Tells people of drift, which fails no run: the check `drift` of a report warns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from mlops_assets.assets.drift_report import STAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_assets.components.notifications import People

SENSOR = "tell_of_drift"
CHECK = "drift"
LOOKED_AT = 5  # of the newest records, for one that is no planned evaluation


def tell_of_drift(people: People, namespace: str | None) -> dg.SensorDefinition:
    """The sensor that sends a message for each drift report of this code location whose score is above its threshold.

    Its cursor has the last report of each model that it has seen. What was there before its first tick is not told.
    """

    @dg.sensor(
        name=SENSOR,
        description="Tells those of MLOPS_ALERT_WEBHOOK and MLOPS_ALERT_MAIL of drift",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        seen = _seen(context.cursor)
        newest = dict(_newest(context))
        place = f" in {namespace}" if namespace else ""
        told = 0
        for model, (number, passed, found) in newest.items():
            if seen is None or number <= seen.get(model, 0) or passed:
                continue
            told += 1
            for refused in people.tell(f"Drift of {model}{place}\n{found}"):
                context.log.warning(f"The drift of {model} was not told: {refused}")
        context.update_cursor(json.dumps((seen or {}) | {model: number for model, (number, *_) in newest.items()}))
        return dg.SkipReason(f"{len(newest)} models have a drift report; {told} new ones are above their threshold")

    return sensor


def _seen(cursor: str | None) -> dict[str, int] | None:
    """A cursor; where it is none of ours, as after somebody has set it by hand, the look is the first one again."""
    try:
        return TypeAdapter(dict[str, int]).validate_json(cursor) if cursor else None
    except ValidationError:
        return None


def _newest(context: dg.SensorEvaluationContext) -> Iterator[tuple[str, tuple[int, bool, str]]]:
    """The newest evaluation of each model's check: its number, whether it has passed, and what it says."""
    assert context.repository_def is not None
    for key in context.repository_def.asset_graph.asset_check_keys:
        model, *stage = key.asset_key.path
        if (stage, key.name) != ([STAGE], CHECK):
            continue
        for record in context.instance.event_log_storage.get_asset_check_execution_history(key, LOOKED_AT):
            event = record.event.dagster_event if record.event else None
            if event is not None and event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                evaluation = event.asset_check_evaluation_data
                yield model, (record.id, evaluation.passed, evaluation.description or "")
                break
