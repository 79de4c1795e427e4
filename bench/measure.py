"""A measured promise, and how things are measured side by side."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROJECT = Path(__file__).resolve().parent.parent
COMPARE = {">=": operator.ge, "<=": operator.le}


class Result(BaseModel):
    """One promise: our figure, the anchor's from the same session, and whether the goal is met."""

    name: str
    value: float
    unit: str
    anchor: str
    anchor_value: float | None
    ratio: float | None
    goal: str
    ok: bool


def result(
    name: str,
    value: float,
    unit: str,
    anchor: str,
    anchor_value: float | None,
    *,
    goal: tuple[str, float, str],
    better: str = "more",
) -> Result:
    """Judge a figure. `goal` is (>= or <=, number, `x` for the ratio or the unit); the ratio says how much better."""
    ratio = None
    if anchor_value is not None:
        ratio = value / anchor_value if better == "more" else anchor_value / value
    sign, wanted, what = goal
    judged = ratio if what == "x" else value
    assert judged is not None
    return Result(
        name=name,
        value=value,
        unit=unit,
        anchor=anchor,
        anchor_value=anchor_value,
        ratio=ratio,
        goal=f"{sign} {wanted:g} {what}",
        ok=COMPARE[sign](judged, wanted),
    )


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure; they take turns, so that all meet the same noise."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for place, measure in zip(found, measures, strict=True):
            place.append(measure())
    return [statistics.median(values) for values in found]


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command_seconds(command: Sequence[str], folder: Path = PROJECT, **variables: str) -> float:
    """How long a command takes in a folder; its output is shown when it fails."""

    def run() -> None:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    return seconds(run)


def in_process(work: Callable[[], None], *arguments: object) -> dict[str, Any]:
    """The figures that a function of a module prints as JSON in a process of its own, with these arguments."""
    program = f"from {work.__module__} import {work.__name__} as work; work()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the time of a measurement."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
