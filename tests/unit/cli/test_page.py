"""docs/cli.md: it is what the program gives."""

from __future__ import annotations

from pathlib import Path

from mlops_assets.cli.page import page

PROJECT = Path(__file__).parents[3]


def test_the_page_is_what_the_program_gives() -> None:
    assert (PROJECT / "docs/cli.md").read_text() == page(), "run `make schema`"


def test_every_command_has_its_part() -> None:
    wanted = [
        "check",
        "doctor",
        "explain",
        "exporter",
        "feedback",
        "init",
        "lineage",
        "models",
        "retention",
        "retire",
        "rollback",
        "schema",
        "served",
        "servers",
        "servers start",
        "servers status",
        "servers stop",
    ]
    headings = [line for line in page().splitlines() if line.startswith("## ")]
    assert headings == [f"## mlops-assets {name}" for name in wanted]
