"""Daemons that are killed at any moment, and two of them at once: exactly the retrains that the policy allows."""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlops_assets.components.retrain_watch import RetrainWatch
from mlops_assets.ml.automation.retrain_policy import PastRetrain, RetrainFacts, RetrainPolicy, WindowFact, decide
from mlops_assets.ml.errors import SpecError
from resources.lake.retrain_ledger import RETRAIN
from tests.retraining import DAY, NOON, Loop, job, made_run, report
from tests.support import spec, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.spec.model_spec import ModelSpec

POLICY: dict[str, Any] = {"cooldown": "20h", "per_week": 3}
LATER = timedelta(minutes=10)  # more than a daemon waits for another one's run
DAEMONS = 2
MANY = int(os.environ.get("MLOPS_STORM_DAYS", "50"))  # of 20 models: 1,000 reports
PAUSE = "pause"


def specs(models: list[str]) -> list[ModelSpec]:
    return [spec(model=model, source__uri=f"source/{model}/*.csv", retrain=POLICY) for model in models]


def loop_at(home: Path, mlflow_uri: str) -> Loop:
    return Loop(home, mlflow_uri, dg.DagsterInstance.local_temp(str(home / "dagster")))


def daemon(home: Path, mlflow_uri: str, models: list[str], log: Path) -> None:
    """Look again and again, and make runs of what is asked for as Dagster's daemon does, until killed."""
    loop, watch, prepared = loop_at(home, mlflow_uri), RetrainWatch(specs(models)), functools.cache(job)
    while True:
        clock = (home / "clock").read_text()
        if clock.startswith(PAUSE):
            _say(log, clock)
            continue
        looked = watch.look(loop.instance, loop.lake, loop.tracking, None, datetime.fromisoformat(clock))
        for request in looked.requests:
            known = loop.instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": request.run_key or ""}))
            if not known:
                made_run(loop.instance, request, prepared=prepared(request.job_name or ""))
        if not looked.requests:
            _say(log, clock)


def _say(log: Path, clock: str) -> None:
    with log.open("a") as file:
        file.write(f"{clock}\n")
    time.sleep(0.05)


@dataclass
class Storm:
    """Daemons over a lake, an MLflow and a Dagster, whose clock and runs are the test's."""

    home: Path
    mlflow_uri: str
    models: list[str]
    daemons: list[Any] = field(default_factory=list)
    number: int = 0
    doubled: int = 0

    def __post_init__(self) -> None:
        (self.home / "dagster").mkdir()
        self.loop = loop_at(self.home, self.mlflow_uri)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["mlflow", "tests.integration.test_retrain_storm"])
        for model in self.models:
            self.loop.champion(model)

    def start(self) -> None:
        while len(self.daemons) < DAEMONS:
            self.number += 1
            log = self.home / f"daemon-{self.number}"
            made = self.context.Process(target=daemon, args=(self.home, self.mlflow_uri, self.models, log), daemon=True)
            made.start()
            self.daemons.append((made, log))

    def kill(self, victim: int) -> None:
        """kill -9, and another one in its place."""
        dead, _ = self.daemons.pop(victim)
        os.kill(dead.pid, signal.SIGKILL)
        dead.join()
        self.start()

    def pause(self, day: int) -> None:
        """Until no daemon looks, so that none sees the reports of a day at the time of the day before."""
        self.set_clock(f"{PAUSE} {day}.")
        wait_until(lambda: all(log.exists() and f"{PAUSE} {day}." in log.read_text() for _, log in self.daemons), 600)

    def set_clock(self, now: str) -> None:
        draft = self.home / "clock.draft"
        draft.write_text(now)
        draft.replace(self.home / "clock")

    def settle(self, now: datetime) -> None:
        """Until every daemon has looked at this time and found nothing to do; then all runs end.

        One alone says little: it leaves to the other what that is deciding, which may be killed before it has.
        """

        def is_idle() -> bool:
            assert all(one.is_alive() for one, _ in self.daemons), "a daemon has ended by itself"
            return all(log.exists() and now.isoformat() in log.read_text() for _, log in self.daemons)

        wait_until(is_idle, 600)
        for run in self.loop.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            try:
                self.loop.ledger.begin(run, run.job_name, "d")
            except SpecError:
                self.doubled += 1
                self.loop.instance.report_run_failed(run)
            else:
                event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name)
                self.loop.instance.report_dagster_event(event, run.run_id)


def wanted(scores: list[float]) -> list[str]:
    """The keys of the retrains that the policy allows, a report a day."""
    policy, history = RetrainPolicy(cooldown=timedelta(hours=20), per_week=3), list[PastRetrain]()
    for number in range(len(scores)):
        now = NOON + number * DAY + 2 * LATER
        windows = tuple(
            WindowFact(day=day_of(index), has_drifted=score > 0.3) for index, score in enumerate(scores[: number + 1])
        )
        facts = RetrainFacts(trained_at=NOON, trained_on="d", data="d", trained_by="c", code="c", windows=windows)
        decision = decide(policy, facts, history, now)
        if decision.key:
            history.append(PastRetrain(key=decision.key, begun_at=now, data="d", code="c", outcome="deployed"))
    return [entry.key for entry in history]


def day_of(number: int) -> date:
    return (NOON + (number - 1) * DAY).date()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("models", "days", "kills"),
    [
        pytest.param(2, 2, 2, id="small", marks=pytest.mark.long),
        pytest.param(20, MANY, min(MANY, 20), id="many", marks=pytest.mark.faults),
    ],
)
def test_no_retrain_is_lost_and_none_is_doubled(
    tmp_path: Path, mlflow_uri: str, models: int, days: int, kills: int
) -> None:
    chance = random.Random(7)
    storm = Storm(tmp_path, mlflow_uri, [f"storm_{models}_{number}" for number in range(models)])
    scores = {model: [chance.choice([0.1, 0.9, 0.9]) for _ in range(days)] for model in storm.models}
    dying = {*chance.sample(range(2 * days), kills)}
    storm.set_clock(PAUSE)
    try:
        storm.start()
        for number in range(days):
            storm.pause(number)
            for model, found in scores.items():
                report(storm.loop.lake, model, day_of(number), found[number])
            # What is left of one that was killed is asked for later on the same day
            for phase in range(3) if {2 * number, 2 * number + 1} & dying else [2]:
                now = NOON + number * DAY + phase * LATER
                storm.set_clock(now.isoformat())
                if 2 * number + phase in dying and phase < 2:
                    time.sleep(chance.uniform(0.05, 1))
                    storm.kill(chance.randrange(DAEMONS))
                storm.settle(now)
    finally:
        for process, _ in storm.daemons:
            process.kill()
    runs = storm.loop.instance.get_runs()
    ended = {status: sorted(_name(run) for run in runs if run.status == status) for status in {r.status for r in runs}}
    everything = sorted(f"{model}/{key}" for model, found in scores.items() for key in wanted(found))
    assert ended[dg.DagsterRunStatus.SUCCESS] == everything
    assert len(runs) - len(everything) == storm.doubled <= kills
    assert storm.number == kills + DAEMONS


def _name(run: dg.DagsterRun) -> str:
    return f"{run.job_name}/{run.tags[RETRAIN]}"
