"""The commands of `mlops-assets` about models in service: what is served, why, since when, and how that is changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic import BaseModel

Command = TypeVar("Command", bound="Callable[..., Any]")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
REASON = click.option("--reason", required=True, metavar="TEXT", help="Why; it goes to the ledger.")
DAY = click.DateTime(["%Y-%m-%d"])
MOST_DAYS = 36_525  # as in mlops_assets.ml.values, which would bring pydantic into the start of each command


class Moment(click.ParamType[datetime]):
    """A moment in ISO 8601, UTC where it names no zone."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no moment; write one such as 2026-11-17T12:00, which is UTC", param, ctx)


@click.command()
@AS_JSON
def models(as_json: bool) -> None:
    """List models: defined by a YAML, served, or orphaned: served or registered, and defined by none.

    Those of the own space; MLOPS_SPACE names another, `production` that of production. In a cluster call it in a pod
    that may ask Kubernetes.
    """
    from mlops_assets.cli import upkeep

    found = upkeep.models()
    if as_json:
        _print_json([model.model_dump() | {"state": model.state} for model in found])
    else:
        _print(upkeep.told(found))


@click.command()
@click.argument("name")
@REASON
@click.option("--yes", is_flag=True, help="Also when a YAML defines the model; its next run deploys it again.")
def retire(name: str, reason: str, yes: bool) -> None:
    """Take model NAME out of service: its endpoint goes down, and its aliases are taken off.

    It is for models whose YAML was deleted or renamed. Its feature views go from the online store; the versions stay
    in MLflow. Called again, it completes what was interrupted. In a cluster start the job retire_model, which does the
    same.
    """
    from mlops_assets.cli.upkeep import retire as lines

    _print(lines(name, reason, even_if_defined=yes))


@click.command()
@click.argument("name", metavar="MODEL")
@click.argument("version", type=click.IntRange(min=1))
@REASON
def rollback(name: str, version: int, reason: str) -> None:
    """Make the registered VERSION of MODEL champion again.

    It goes the way of a deployment, without shadow and canary: the version comes up beside the champion, answers its
    golden rows, takes over, and the alias and the ledger follow. What cannot be deployed is refused, and what answers
    goes on. Called again, it completes what was interrupted. In a cluster start the job MODEL_rollback, which does the
    same. The next run of the model promotes what is better than this version; stop its schedule, or correct its YAML,
    where it should not.
    """
    from mlops_assets.cli.upkeep import rollback as lines

    _print(lines(name, version, reason))


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--at", "moment", type=Moment(), metavar="MOMENT", help="ISO 8601, in UTC where it names no zone; now.")
@AS_JSON
def served(name: str, moment: datetime | None, as_json: bool) -> None:
    """Say which version of MODEL was champion at a moment, since when, and why.

    It is what the ledger of the aliases says: who made the version champion, for which reason and on what evidence. A
    roll-out that was under way is told too: its version may have answered a share of the requests.
    """
    from mlops_assets.cli import provenance

    found = provenance.served(name, moment or datetime.now(UTC))
    _print_value(found) if as_json else _print(provenance.told_served(found))


def _of_a_request(command: Command) -> Command:
    """The options of commands that look for a request in the inference log."""
    days = click.option(
        "--days",
        type=click.IntRange(min=1, max=MOST_DAYS),
        default=90,
        show_default=True,
        metavar="N",
        help="How many days are looked through where --day is not given, from today backwards.",
    )
    day = click.option("--day", type=DAY, metavar="YYYY-MM-DD", help="When it was asked (UTC); it is found sooner.")
    whose = "Whose request it was; all models are looked through when not given."
    model = click.option("--model", metavar="NAME", help=whose)
    return click.argument("request_id")(model(day(days(command))))


@click.command()
@_of_a_request
@AS_JSON
def lineage(request_id: str, model: str | None, day: datetime | None, days: int, as_json: bool) -> None:
    """Say what the answer to REQUEST_ID was made from.

    From the inference log in the lake to the version that answered, and from there to its MLflow run, Dagster run,
    commit, snapshots and source objects with their ETags. An answer names its request's id. A model server stores what
    it was asked within half a minute. What is not known any more is said. Exit status 1 when the request is not found.
    """
    from mlops_assets.cli import provenance

    found = provenance.lineage(request_id, model, day.date() if day else None, days)
    _print_value(found) if as_json else _print(provenance.told_lineage(found))


@click.command()
@_of_a_request
@click.option("--row", type=click.IntRange(min=0), default=0, help="Which row of the request; the first one is 0.")
@click.option("--label", metavar="CLASS", help="Whose probability; that of the answer when not given.")
@AS_JSON
def explain(
    request_id: str, model: str | None, day: datetime | None, days: int, row: int, label: str | None, as_json: bool
) -> None:
    """Say what each column contributed to the answer to REQUEST_ID.

    The row is that of the inference log, and the version that which answered: it comes from MLflow and need not be
    served any more. Columns that the log leaves out, or of which it keeps a digest, cannot be explained.
    """
    from mlops_assets.cli import explain as explaining

    found = explaining.explain(request_id, row, label, model, day.date() if day else None, days)
    _print_value(found) if as_json else _print(explaining.told(found))


@click.command()
@click.argument("name", metavar="MODEL")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def feedback(name: str, file: Path) -> None:
    """Store labels of MODEL's requests from a CSV or Parquet FILE in the lake.

    The columns are request_id and label, and where they are known row, the number of the row in its request, 0 when
    not given, and time, when the label became known. All labels are stored or none: each must fit the model, as those
    that its server is told. Of several labels of a row the last one counts.
    """
    from mlops_assets.cli.labels import feedback as lines

    _print(lines(name, file))


MODEL_COMMANDS = (explain, feedback, lineage, models, retire, rollback, served)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _print_value(value: BaseModel) -> None:
    _print_json(value.model_dump(mode="json"))


def _print_json(value: Any) -> None:
    from pydantic_core import from_json, to_json

    # NaN is no JSON
    click.echo(json.dumps(from_json(to_json(value, inf_nan_mode="null")), indent=2, ensure_ascii=False))
