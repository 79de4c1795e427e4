"""`python -m mlops_assets.cli.page FILE`: writes the page of the program's commands, from the program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_assets.cli.program import main

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = """\
# The program `mlops-assets`

`make schema` writes this page from the program, and a test compares the two. `make setup` installs the program into
`.venv/bin`; `python -m mlops_assets.cli` is the same. The exit status is 0 when all is well, 1 when something was found
or failed, and 2 when the command was called wrongly.
"""
WIDTH = 100


def page() -> str:
    """The page as Markdown."""
    return "\n".join([PAGE, *_commands(main, None, "mlops-assets")])


def _commands(command: click.Command, parent: click.Context | None, name: str) -> Iterator[str]:
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent, name, **settings)
    if parent is not None:
        yield f"## {context.command_path}\n"
    yield f"```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from _commands(found, context, inner)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
