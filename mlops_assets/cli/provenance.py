"""Both ways through what is recorded: from an answer back to its data, and who was champion at a moment, and why."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from mlops_assets.assets.champion import CHAMPION
from mlops_assets.assets.logged_requests import LoggedRequest, days_back, find
from mlops_assets.assets.provenance import Provenance, provenance_of
from mlops_assets.cli.upkeep import outside_world
from mlops_assets.components.defined_models import defined_models
from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.values import Value, did_you_mean
from resources.tracking.alias_ledger import AliasLedger, AliasMove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resources.lake.lake import Lake
    from resources.tracking.mlflow_tracking import Tracking

SHOWN_OBJECTS = 20  # in text; JSON has all


class RolloutState(Value):
    """How far the roll-out of a version had come, which may have had a share of the requests."""

    version: int
    state: str
    found: str
    since: datetime


class Served(Value):
    """Which version was champion at a moment, and by which move; None before the first one."""

    model: str
    at: datetime
    version: int | None
    move: AliasMove | None
    rollout: RolloutState | None
    """The roll-out that was under way."""
    first: datetime
    """When the model had its first champion."""


class Answered(Value):
    """A version that answered a request, how it was champion when it did, and what it was made from."""

    champion: AliasMove | None
    provenance: Provenance


class Lineage(Value):
    """A request, and what its answers were made from."""

    request: LoggedRequest
    versions: tuple[Answered, ...]


def served(model: str, at: datetime) -> Served:
    """The champion at a moment.

    Raises:
        SpecError: the model never had one.
    """
    _, tracking, lake = outside_world()
    ledger = AliasLedger(lake, model)
    moves = ledger.moves(CHAMPION)
    if not moves:
        known = {*defined_models(), *tracking.models()}
        what = f"There is no model {model}{did_you_mean(model, known)}"
        if model in known:
            what = f"No version of {model} has ever been champion"
        raise SpecError(what, remedy="mlops-assets models lists what there is")
    move = ledger.at(CHAMPION, at)
    version = move.version if move else None
    rollout = _under_way(lake, model, at, move)
    return Served(model=model, at=at, version=version, move=move, rollout=rollout, first=moves[0].since)


def _under_way(lake: Lake, model: str, at: datetime, move: AliasMove | None) -> RolloutState | None:
    """The state of a roll-out that had begun by a moment, and neither failed nor moved the alias."""
    states = [
        RolloutState(**{name: entry[name] for name in ("version", "state", "found")}, since=since)
        for entry in lake.entries(f"{model}/rollouts")
        if (since := datetime.fromtimestamp(entry["time"], UTC)) <= at
    ]
    if not states or states[-1].state == "rolled_back" or (move and move.since >= states[-1].since):
        return None
    return states[-1]


def told_served(found: Served) -> Iterator[str]:
    """Lines for people."""
    at, move = _moment(found.at), found.move
    if move is None:
        yield f"No version of {found.model} was champion at {at}; the first one was so from {_moment(found.first)}."
        return
    if move.version is None:
        yield f"No version of {found.model} was champion at {at}"
    else:
        yield f"Version {move.version} of {found.model} was champion at {at}"
    yield _row("since", _moment(move.since))
    yield _row("until", _moment(move.until) if move.until else "now")
    yield _row("by", move.actor)
    yield _row("because", move.reason)
    yield _row("before it", f"version {move.previous_version}" if move.previous_version else "no version")
    if move.sha256:
        yield _row("digest", move.sha256)
    if found.rollout:
        state = found.rollout
        yield _row("rolled out", f"version {state.version}, {state.state} since {_moment(state.since)}: {state.found}")
    for name, value in move.evidence.items():
        if name == "rollout":
            yield from (_row(step["state"], step["found"]) for step in value)
        elif value not in (None, {}, ""):
            yield _row(name, value if isinstance(value, str) else json.dumps(value))


def lineage(request_id: str, model: str | None, day: date | None, days: int) -> Lineage:
    """A request and what its answers were made from; of all models where none is named.

    Raises:
        SpecError: it is not in the log.
    """
    _, tracking, lake = outside_world()
    request = logged_request(lake, tracking, request_id, model, day, days)
    ledger, first = AliasLedger(lake, request.model), dict[str, datetime]()
    for answer in request.answers:
        first.setdefault(answer.version, answer.time)
    versions = [
        Answered(
            champion=move if (move := ledger.at(CHAMPION, time)) and str(move.version) == version else None,
            provenance=provenance_of(request.model, version, lake, tracking),
        )
        for version, time in first.items()
    ]
    return Lineage(request=request, versions=tuple(versions))


def logged_request(
    lake: Lake, tracking: Tracking, request_id: str, model: str | None, day: date | None, days: int
) -> LoggedRequest:
    """A request in the logs of a model, or of all; of a day, or of so many.

    Raises:
        SpecError: it is not there.
    """
    models = [model] if model else sorted({*defined_models(), *tracking.models()})
    looked = [day] if day else days_back(datetime.now(UTC).date(), days)
    request = find(lake, request_id, models, looked)
    if request is None:
        when = f"on {day}" if day else f"in the last {days} days"
        whose = model or f"all {len(models)} models"
        what = f"The inference log of {whose} has no request {request_id} {when}"
        remedy = "a server stores what it was asked within half a minute, and deploy.inference_log says what it keeps; "
        remedy += "give --model and --day of it, or more --days" if not day else "give another --day"
        raise SpecError(what, remedy=remedy)
    return request


def told_lineage(found: Lineage) -> Iterator[str]:
    """Lines for people."""
    request = found.request
    yield f"Request {request.request_id} asked {request.model}"
    for answer in request.answers:
        rows = f"{answer.rows} row{'s' if answer.rows != 1 else ''}"
        yield _row(
            answer.role, f"version {answer.version} at {_moment(answer.time)}, {rows}, {answer.latency_ms:.2f} ms"
        )
    for one in found.versions:
        yield from _told_version(one.provenance, one.champion)


def _told_version(made: Provenance, champion: AliasMove | None) -> Iterator[str]:
    yield f"Version {made.version} of {made.model}"
    if champion:
        yield _row("champion", f"since {_moment(champion.since)} by {champion.actor}: {champion.reason}")
    values = {
        "digest": made.sha256,
        "MLflow": made.mlflow_version,
        "MLflow run": made.mlflow_run,
        "Dagster run": made.dagster_run,
        "commit": made.git_commit,
    }
    for name, value in values.items():
        if value:
            yield _row(name, value)
    for item in made.snapshots:
        yield _row(item.stage, item.snapshot)
    if made.source:
        yield _row("source", f"{made.source}, {len(made.objects)} object{'s' if len(made.objects) != 1 else ''}")
    for item in made.objects[:SHOWN_OBJECTS]:
        yield _row("", f"{item.key}  ETag {item.etag}  {item.size} bytes")
    if len(made.objects) > SHOWN_OBJECTS:
        yield _row("", f"and {len(made.objects) - SHOWN_OBJECTS} more, which --json lists")
    for what in made.missing:
        yield _row("not known", what)


def _row(name: str, value: Any) -> str:
    return f"  {name:<18} {value}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
