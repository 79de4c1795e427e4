"""The commands of `mlops-assets`, their arguments and help. What they do stands in the other modules.

Those about models in service are in model_commands.py.

Exit status: 0 all is well, 1 something was found or failed, 2 the command was called wrongly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_assets.cli.model_commands import MODEL_COMMANDS, MOST_DAYS
from mlops_assets.ml.errors import MlopsError

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = click.Path(dir_okay=False, path_type=Path)


class _Program(click.Group):
    """Tells errors of ours in their one sentence, without a stack."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MlopsError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.filename is None:
                raise
            told = f"{error.filename}: {error.strerror}"
            raise click.ClickException(f"{told}; correct it, or set MLOPS_HOME to a folder of your own.") from error


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """One YAML file per model: the whole machine-learning life cycle as Dagster assets.

    Runs themselves are Dagster's: `dagster job execute -m mlops_assets.definitions -j MODEL`.
    """


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
def check(paths: tuple[Path, ...]) -> None:
    """Check models' YAMLs: every problem of every file, with file and line.

    PATH is a defs.yaml, or a folder with some in it; without one, all of the project are checked. Beside what loading
    checks, the classes that `train` names are imported and their params held against their signatures, and two files
    with one model are told. Nothing is trained, and no GPU is needed. Exit status 1 when there is a problem.
    """
    from mlops_assets.cli.check import check as check_all

    found = check_all(paths)
    for problem in found.problems:
        click.echo(problem)
    if found.problems:
        click.echo(f"{_count(len(found.problems), 'problem')} in {_count(found.files, 'file')}", err=True)
        sys.exit(1)
    click.echo(f"{', '.join(found.models)}: no problems")


@main.command()
def doctor() -> None:
    """Look whether this machine, and what it talks to, can be used.

    A line each, OK, WARN or FAIL with a remedy: Python, packages, disk, ports, space, lake, MLflow, models, clock,
    GPU, Dagster. Each look ends after 45 s at the latest. Passwords are not shown. Exit status 1 when one fails.
    """
    from mlops_assets.cli.doctor import diagnose

    failed = False
    for name, finding in diagnose():
        failed = failed or finding.status == "FAIL"
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        click.echo(f"{finding.status:<5} {name:<16} {finding.what}{remedy}")
    sys.exit(failed)


@main.group()
def servers() -> None:
    """Start, stop or look at MLflow, the model server and the exporter of this machine.

    Runs start the first two when they need them, and all outlive the runs. What they keep on disk stays.
    """


@servers.command()
def start() -> None:
    """Start those that do not run, without waiting until they answer."""
    _servers("start")


@servers.command()
def stop() -> None:
    """End those that run."""
    _servers("stop")


@servers.command()
def status() -> None:
    """Say whether they run and answer, and where; and which models are not served, and why."""
    _servers("status")


def _servers(what: str) -> None:
    from mlops_assets.cli import servers as local
    from resources.environment import Environment

    lines: Iterable[str] = getattr(local, what)(Environment.read())
    for line in lines:
        click.echo(line)


@main.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", required=True, metavar="COLUMN", help="The column to predict.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where defs.yaml is written; the project's defs/NAME when not given.",
)
def init(name: str, file: Path, target: str, out: Path | None) -> None:
    """Write the YAML of a new model NAME that fits a CSV or Parquet FILE.

    Columns, their types, the task, a first estimator and a gate are read off the file; look through them. The file is
    copied into the lake. Nothing that is there is overwritten.
    """
    from mlops_assets.cli.draft import init as make
    from resources.environment import Environment

    for line in make(name, file, target, out, Environment.read().lake()):
        click.echo(line)


@main.command()
@click.argument("file", type=FILE, required=False)
def schema(file: Path | None) -> None:
    """Print the JSON schema of a model's YAML, or write it into FILE, for editors."""
    import json

    from mlops_assets.spec.json_schema import schema as made

    text = json.dumps(made(), indent=2)
    if file is None:
        click.echo(text)
    else:
        file.write_text(text + "\n")


@main.command()
@click.option("--delete", is_flag=True, help="Delete it; without this, it is listed alone.")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0, max=MOST_DAYS),
    default=14,
    show_default=True,
    metavar="DAYS",
    help="What was written, or used by a run, in these last days stays.",
)
@click.option(
    "--keep-versions",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of each model, only the newest N versions, and those with an alias, keep all that they were made from.",
)
def retention(delete: bool, days: float, keep_versions: int | None) -> None:
    """List, or delete, what no version, alias or run needs in the lake and in this machine's cache.

    It is the job lake_retention, which can also be scheduled. DAGSTER_HOME must be set: runs in progress are known
    from there. Exit status 1 when MLflow cannot be asked; nothing is deleted then.
    """
    from mlops_assets.cli.upkeep import retention as lines

    for line in lines(dry_run=not delete, older_than_days=days, keep_versions=keep_versions):
        click.echo(line)


@main.command()
@click.option("--address", default="127.0.0.1", show_default=True, metavar="IP", help="Where it listens.")
def exporter(address: str) -> None:
    """Show Prometheus the metrics of models, drift, retrains and runs, at EXPORTER_PORT/metrics.

    They are read of YAMLs, registry, ledgers, drift reports and Dagster's storage (DAGSTER_HOME), each every half
    minute. A source that is away leaves the others alone, and `model_exporter_up` says so.
    """
    from mlops_assets.exporter.server import serve
    from resources.environment import Environment

    serve(Environment.read(), address)


for command in MODEL_COMMANDS:
    main.add_command(command)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
