"""What a tick of the sensor `retrain` costs, and how long a listing of a large source keeps it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from bench.measure import Result, in_turn, result, scratch, seconds
from mlops_assets.components.retrain_watch import RetrainWatch
from mlops_assets.components.source_watch import Allowance, SourceState, look
from resources.environment import Environment
from resources.lake.lake import Lake
from tests.retraining import DAY, Loop, entry, report
from tests.support import spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODELS, REPORTS, PAST, OBJECTS = 100, 10, 3, 100_000


@contextmanager
def watched(home: Path) -> Iterator[tuple[Loop, RetrainWatch]]:
    """Models with a champion, as many reports as are read, and retrains that have ended."""
    (home / "dagster").mkdir()
    server = Environment.read({"MLOPS_HOME": str(home), "MLFLOW_PORT": "15005"}).mlflow_server()
    now = datetime.now(UTC)
    try:
        loop = Loop(home, server.ensure_running(), dg.DagsterInstance.local_temp(str(home / "dagster")), now)
        names = [f"model_{number}" for number in range(MODELS)]
        for name in names:
            loop.champion(name)
            loop.put(f"{name}/a.csv", "1")
            for days in range(1, REPORTS + 1):
                report(loop.lake, name, (now - days * DAY).date(), 0.1)
            for weeks in range(PAST):
                past = entry(name, f"drift/{(now - 7 * weeks * DAY).date()}", now - 7 * (weeks + 1) * DAY)
                loop.ledger.write(past)
                loop.ledger.begin(dg.DagsterRun(name, tags=past.tags), name, "d")
        specs = [spec(model=name, source__uri=f"source/{name}/*.csv", retrain={"on_new_data": True}) for name in names]
        yield loop, RetrainWatch(specs)
    finally:
        server.stop()


def tick(loop: Loop, watch: RetrainWatch) -> None:
    """One look, which begins nothing."""
    loop.now += timedelta(minutes=1)
    looked = watch.look(loop.instance, loop.lake, loop.tracking, loop.cursor, loop.now)
    loop.cursor = looked.cursor
    assert not looked.requests
    assert len(looked.said) == MODELS
    assert all(reason.startswith("no cause") for reason in looked.said.values()), looked.said


def longest_look(home: Path) -> float:
    """Seconds of the longest look at a source with many objects, from the first one on until it has a version."""
    for number in range(OBJECTS):
        folder = home / "lake/source" / f"{number // 1000}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.csv").write_bytes(b"1")
    lake, state, longest = (
        Lake(uri=str(home / "lake"), cache=str(home / "cache")),
        SourceState(uri="source/**/*.csv"),
        0.0,
    )
    while state.version is None:
        before = state

        def one(before: SourceState = before) -> None:
            nonlocal state
            state = look(lake, before.uri, before, Allowance())

        longest = max(longest, seconds(one))
    return longest


def measure() -> list[Result]:
    """All figures of ticks."""
    with scratch() as home, watched(home) as (loop, watch):
        first = seconds(lambda: tick(loop, watch))
        [later] = in_turn(7, lambda: seconds(lambda: tick(loop, watch)))
    with scratch() as home:
        listing = longest_look(home)
    return [
        result(f"tick of `retrain`, {MODELS} models", later, "s", "", None, goal=("<=", 0.2, "s")),
        result("the first one of a code location", first, "s", "", None, goal=("<=", 12, "s")),
        result(f"longest look at a source of {OBJECTS:,} objects", listing, "s", "", None, goal=("<=", 10, "s")),
    ]
