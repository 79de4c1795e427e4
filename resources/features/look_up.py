"""Adds the features of views to requests of V1 and V2, as they are known at the moment that each row is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.feature_view import EVENT_TIME
from mlops_assets.ml.errors import BadRequest
from resources.features.online_store import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlops_assets.ml.data.feature_view import FeatureView, Scalar
    from resources.features.online_store import Known

    Read = Callable[[str, Sequence[Mapping[str, str]]], Sequence[Known]]
    Columns = dict[str, list[Scalar | None]]


def with_features(content: Any, views: Mapping[str, FeatureView], read: Read, now: datetime) -> Any:
    """A request with the features of all views; what has not the form of one is left to the predictor, which says so.

    A row is about `now` (naive UTC), or about what it says itself as `event_timestamp`.

    Raises:
        BadRequest: a row has a feature that is looked up, or none of a view that refuses this.
    """
    instances, inputs = (content.get(name) if isinstance(content, dict) else None for name in ("instances", "inputs"))
    if isinstance(instances, list) and all(isinstance(row, dict) for row in instances):
        rows = [dict(row) for row in instances]
        added = features_of(rows, views, read, now)
        for index, row in enumerate(rows):
            row.pop(EVENT_TIME, None)
            row.update({name: values[index] for name, values in added.items()})
        return content | {"instances": rows}
    if isinstance(inputs, list) and all(_is_tensor(tensor) for tensor in inputs):
        data = {tensor["name"]: _flat(tensor["data"]) for tensor in inputs}
        count = max(map(len, data.values()), default=0)
        rows = [{name: values[n] for name, values in data.items() if n < len(values)} for n in range(count)]
        added = features_of(rows, views, read, now)
        kept = [tensor for tensor in inputs if tensor["name"] != EVENT_TIME]
        return content | {"inputs": [*kept, *(_tensor(name, values) for name, values in added.items())]}
    return content


def features_of(
    rows: Sequence[Mapping[str, Any]], views: Mapping[str, FeatureView], read: Read, now: datetime
) -> Columns:
    """The features of all views, a value for each row."""
    moments = [_moment(number, row, now) for number, row in enumerate(rows)]
    found: Columns = {}
    for name, view in views.items():
        given = next(((n, f) for n, row in enumerate(rows) for f in view.features if f in row), None)
        if given:
            what = f"row {given[0]}: {given[1]} is looked up in the feature store (view {name})"
            raise BadRequest(what, remedy="leave it out; the predictor itself takes all columns")
        entities = [_entity(row, view) for row in rows]
        asked = {tuple(entity.values()): entity for entity in entities if entity is not None}
        known = dict(zip(asked, read(name, list(asked.values())), strict=True)) if asked else {}
        newest = [known[tuple(entity.values())] if entity is not None else NOTHING for entity in entities]
        for feature in view.features:
            found[feature] = [
                view.value(feature, value.at, value.values.get(feature), at)
                for value, at in zip(newest, moments, strict=True)
            ]
            if view.missing == "refuse" and None in found[feature]:
                number = found[feature].index(None)
                raise BadRequest(
                    _refusal(number, feature, name, view, entities[number], newest[number], moments[number])
                )
    return found


def _refusal(
    number: int,
    feature: str,
    name: str,
    view: FeatureView,
    entity: Mapping[str, str] | None,
    known: Known,
    at: datetime,
) -> str:
    if entity is None:
        return f"row {number}: {feature} cannot be looked up (view {name}); give {', '.join(view.entity)}"
    whose = ", ".join(f"{column} {value}" for column, value in entity.items())
    if known.at is None:
        return f"row {number}: nothing is known of {whose} in the feature store (view {name}), so {feature} is missing"
    if not view.counts(known.at, at):
        return (
            f"row {number}: what the feature store (view {name}) knows of {whose} is of {known.at}, "
            f"and {at:%Y-%m-%d %H:%M:%S} takes what is at most {view.max_age} old, so {feature} is missing"
        )
    return f"row {number}: {feature} of {whose} is empty in the feature store (view {name})"


def _entity(row: Mapping[str, Any], view: FeatureView) -> dict[str, str] | None:
    """What names the row's entity, as text; None where a part is missing."""
    parts = {column: row.get(column) for column in view.entity}
    if any(value is None or value == "" or isinstance(value, dict | list) for value in parts.values()):
        return None
    return {column: value if isinstance(value, str) else f"{value:.0f}" for column, value in parts.items()}


def _moment(number: int, row: Mapping[str, Any], now: datetime) -> datetime:
    given = row.get(EVENT_TIME)
    if given is None:
        return now
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        what = f"row {number}: {EVENT_TIME} is {str(given)[:63]!r}"
        raise BadRequest(what, remedy="give a moment such as 2026-03-01T12:00:00Z") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _is_tensor(tensor: Any) -> bool:
    return isinstance(tensor, dict) and isinstance(tensor.get("name"), str) and isinstance(tensor.get("data"), list)


def _flat(data: list[Any]) -> list[Any]:
    return [value for part in data for value in (part if isinstance(part, list) else [part])]


def _tensor(name: str, values: Sequence[Scalar | None]) -> dict[str, Any]:
    is_text = any(isinstance(value, str) for value in values)
    return {
        "name": name,
        "datatype": "BYTES" if is_text else "FP64",
        "shape": [len(values), 1],
        "data": [value if value is None or is_text else float(value) for value in values],
    }
