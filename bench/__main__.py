"""`make bench`: writes bench/results.json and bench/results.md."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module
from pathlib import Path

from pydantic import TypeAdapter

from bench.measure import Result, say

PARTS = (
    "training",
    "preparation",
    "limits",
    "serving",
    "orchestration",
    "ticks",
    "drift",
    "drift_windows",
    "compaction",
    "images",
    "gpu",
    "cluster",
)
FOLDER = Path(__file__).parent
RESULTS = TypeAdapter(dict[str, list[Result]])


def main(chosen: list[str]) -> int:
    """Measure the chosen parts, or all; how many promises are not kept. Parts left out keep their figures."""
    file = FOLDER / "results.json"
    figures = RESULTS.validate_json(file.read_bytes()) if file.exists() else {}
    missed = 0
    for part in chosen or PARTS:
        say(f"== {part}")
        measured: list[Result] = import_module(f"bench.{part}").measure()
        for row in measured:
            say(f"   {line(row)}")
        if measured:
            figures[part] = measured
        missed += sum(not row.ok for row in measured)
        # After each part: a run that ends half-way has measured something
        file.write_bytes(RESULTS.dump_json(figures, indent=1) + b"\n")
        (FOLDER / "results.md").write_text(table([row for part in PARTS for row in figures.get(part, [])]))
    return missed


def line(row: Result) -> str:
    """One promise in words."""
    against = f" ({row.anchor}: {number(row.anchor_value)}, {row.ratio:.2f}x)" if row.ratio is not None else ""
    return f"{'ok  ' if row.ok else 'MISS'} {row.name}: {number(row.value)} {row.unit}{against}, goal {row.goal}"


def number(value: float | None) -> str:
    """A figure with three digits that count."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(results: list[Result]) -> str:
    """All promises as Markdown."""
    lines = [
        "# Measured",
        "",
        f"By `make bench` on {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}. "
        "Anchors ran in turn with ours, in one session; each figure is a median.",
        "",
        "| what | ours | unit | anchor | anchor's | times better | goal | kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        cells = (row.name, number(row.value), row.unit, row.anchor, number(row.anchor_value), ratio, row.goal)
        lines.append(f"| {' | '.join(cells)} | {'yes' if row.ok else 'NO'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
