"""`make drift-demo`: half a year of real flights passes in minutes, until the model no longer fits and mends itself.

The first champion of `flight_delay` learns from February to April of 2013. Flights of spring weeks and then of autumn
weeks, when far fewer leave late, are asked about at its endpoint, and the truth is told to it. Each week is put into
the inference log as one of the days before today, which is all that is not as in production: reports, policy, sensor,
run, gate and roll-out are those of any model. All of it is in a folder of its own, with servers of its own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import sys
import threading
import time
import urllib.request
import uuid
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from mlops_assets import datasets
from mlops_assets.assets.champion import CHAMPION
from mlops_assets.assets.drift_report import drift_report_asset, drift_summaries
from mlops_assets.assets.handles import HandleIOManager
from mlops_assets.assets.inference_log import inference_log_asset
from mlops_assets.components.defined_models import defined_spec
from mlops_assets.components.model_pipeline import ModelPipeline
from mlops_assets.components.retrain_sensor import retrain_sensor
from mlops_assets.demo import say
from mlops_assets.ml.monitoring.drift_timeline import DayPassed, timeline_plot
from mlops_assets.serving.inference_log import hour_of
from mlops_assets.spec.model_spec import ModelSpec
from resources.environment import Environment
from resources.kubernetes.training_jobs import TrainingJobs
from resources.lake.retrain_ledger import BECAUSE
from resources.serving.choose_target import local_serving
from resources.tracking.mlflow_tracking import Tracking

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from mlops_assets.assets.handles import DriftSummary
    from resources.lake.lake import Lake
    from resources.serving.local_serving import LocalServing

MODEL = "flight_delay"
FIRST_MONTHS = (2, 3, 4)
# By the Monday or Tuesday that they begin with; delays of a single week are the weather's, those of four the season's
WEEKS = [date(2013, 4, 30) + timedelta(weeks=number) for number in (*range(6), *range(20, 30))]
FLIGHTS_A_WEEK, FLIGHTS_A_REQUEST = 600, 20
CHANGES: dict[str, Any] = {
    "monitor": {"window": "4d", "min_rows": 1_800},
    "retrain": {"on_drift": True, "drifted_windows": 2, "of_windows": 3},
    "deploy": {
        # By autumn the champion calls nearly every flight late; what mends that answers otherwise
        "rollout": {
            "max_changed": 1,
            "shadow_requests": 100,
            "shadow_percent": 50,
            "canary_requests": 100,
            "canary_percent": 20,
            "bake": "5s",
        }
    },
}
OUTSIDE = ("LAKE_", "MLFLOW_", "MLOPS_", "SERVING_", "AWS_")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Flight(NamedTuple):
    """A flight as the model is asked about it, and whether it was late."""

    asked: dict[str, Any]
    late: int


class Passed(NamedTuple):
    """A week that has passed, by its first day, and the report about it."""

    week: date
    report: DriftSummary


class Platform:
    """What the demo runs on: a folder's lake, MLflow, model server, and a Dagster that forgets."""

    def __init__(self, environment: Environment) -> None:
        self.spec = demo_spec()
        self.lake: Lake = environment.lake()
        self.tracking = Tracking(uri=environment.mlflow_uri, lake=self.lake)
        self.serving: LocalServing = local_serving(environment)
        self.resources = {
            "lake": self.lake,
            "io_manager": HandleIOManager(lake=self.lake),
            "tracking": self.tracking,
            "serving": self.serving,
            "training_jobs": TrainingJobs(available=False),
        }
        self.instance = dg.DagsterInstance.ephemeral()
        made = ModelPipeline(self.spec).build_defs(None)  # pyright: ignore[reportArgumentType]
        outside = dg.Definitions(resources=self.resources, executor=dg.in_process_executor)
        self.job = dg.Definitions.merge(made, outside).resolve_job_def(MODEL)
        self.sensor = retrain_sensor([self.spec], [self.job])
        self.moved = set[str]()

    def champion(self) -> int | None:
        """The version that answers."""
        champion = self.tracking.by_alias(MODEL, CHAMPION)
        return champion.version if champion else None

    def train(self, tags: dict[str, str] | None = None) -> None:
        """Run the model's whole life cycle."""
        self.job.execute_in_process(instance=self.instance, tags=tags, run_config=QUIET)

    def report(self, day: date) -> DriftSummary:
        """Materialize a day's log and report."""
        for asset in (inference_log_asset(self.spec), drift_report_asset(self.spec)):
            made = dg.materialize(
                [asset], resources=self.resources, instance=self.instance, partition_key=str(day), run_config=QUIET
            )
            assert made.success
        return drift_summaries(self.lake, MODEL)[-1]

    def tick(self) -> tuple[list[dg.RunRequest], str]:
        """The runs that the sensor asks for, and what it says where there are none."""
        resources = {"lake": self.lake, "tracking": self.tracking}
        with dg.build_sensor_context(
            instance=self.instance, resources=resources, sensor_name=self.sensor.name
        ) as context:
            ticked = self.sensor.evaluate_tick(context)
        return list(ticked.run_requests or ()), ticked.skip_message or ""

    def ask(self, flights: Sequence[Flight]) -> None:
        """Ask about flights, several in a request, and tell whether they were late."""
        url = f"{self.serving.server.ensure_running()}/v1/models/{self.lake.name_of(MODEL)}"
        labels = list[dict[str, Any]]()
        for begin in range(0, len(flights), FLIGHTS_A_REQUEST):
            chunk, request_id = flights[begin : begin + FLIGHTS_A_REQUEST], uuid.uuid4().hex
            _post(f"{url}:predict", {"id": request_id, "instances": [flight.asked for flight in chunk]})
            labels += [{"id": request_id, "row": row, "label": flight.late} for row, flight in enumerate(chunk)]
        _post(f"{url}/feedback", {"labels": labels})

    @contextmanager
    def asked_all_the_time(self, flights: Sequence[Flight]) -> Generator[None]:
        """Ask about flights, one after the other, while the block runs."""
        ended = threading.Event()

        def ask() -> None:
            begin = 0
            while not ended.is_set():
                self.ask(flights[begin : begin + FLIGHTS_A_REQUEST])
                begin = (begin + FLIGHTS_A_REQUEST) % len(flights)
                ended.wait(0.02)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def put_into_the_past(self, day: date) -> None:
        """Have what was logged since the last time be of a day that has passed; a server that ends stores all."""
        self.serving.stop()
        put_log_into_the_past(self.lake, MODEL, day, self.moved)


def put_log_into_the_past(lake: Lake, model: str, day: date, moved: set[str]) -> None:
    """Have the files of a model's inference log be of noon of a day, but for those that were `moved` already."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    for item in list(lake.store.stored(f"inference/{model}")):
        if item.key in moved:
            continue
        table = pq.read_table(io.BytesIO(lake.store.read(item.key) or b""))
        index = table.schema.get_field_index("time")
        field, times = table.schema.field(index), [noon] * len(table)
        content, key = io.BytesIO(), f"inference/{model}/{hour_of(noon)}/{uuid.uuid4().hex}.parquet"
        pq.write_table(table.set_column(index, field, pa.array(times, field.type)), content)
        lake.store.create(key, content.getvalue())
        lake.store.delete(item.key)
        moved.add(key)


def main() -> None:
    """Let weeks pass, and show what becomes of the model."""
    start = time.monotonic()
    home = Environment.read().home / "drift-demo"
    shutil.rmtree(home, ignore_errors=True)
    flights = home / "flights"
    flights.mkdir(parents=True)
    own = own_variables(home, os.environ)
    os.environ.clear()
    os.environ.update(own)
    with (home / "drift-demo.log").open("w") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())  # what Dagster, MLflow and Evidently say
    environment = Environment.read()
    datasets.flights(flights)
    platform = Platform(environment)
    try:
        passed = _live(platform, flights, start)
    except Exception as error:
        say(f"\nIt failed: {error}\n{log.name} says more")
        raise
    finally:
        platform.serving.stop()
        environment.mlflow_server().stop()
    plot = home / "timeline.png"
    threshold = platform.spec.monitor.drift_threshold
    days = [
        DayPassed(f"{week:%-d %b}", report.model_version or "", report.score, report.metrics.get("accuracy"))
        for week, report in passed
    ]
    plot.write_bytes(timeline_plot(days, threshold, "accuracy"))
    say(f"\n== Done in {time.monotonic() - start:.0f} s. The same as a plot: {plot}; what was said: {log.name}")


def own_variables(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables without those that name a lake, an MLflow or servers of somebody, and with the demo's."""
    kept = {name: value for name, value in variables.items() if not name.startswith(OUTSIDE)}
    return kept | {"MLOPS_HOME": str(home), "MLFLOW_PORT": _free_port(), "SERVING_PORT": _free_port()}


def _live(platform: Platform, flights: Path, start: float) -> list[Passed]:
    """Let the weeks pass one after the other; what the reports about them say."""

    def told(text: str) -> None:
        say(f"  {time.monotonic() - start:5.1f} s  {text}")

    say(f"== {MODEL} learns from {_months(FIRST_MONTHS)} 2013\n")
    arrive(platform, flights, [date(2013, month, 1) for month in FIRST_MONTHS], until=date(2014, 1, 1))
    platform.train()
    told(f"version {platform.champion()} answers at {platform.serving.server.url}")
    say(f"\n== {len(WEEKS)} later weeks: {FLIGHTS_A_WEEK} flights of each are asked about, and the truth is told\n")
    passed = list[Passed]()
    for number, week in enumerate(WEEKS):
        of_week = flights_of(flights, week)
        platform.ask(of_week)
        logged_as = datetime.now(UTC).date() - timedelta(days=len(WEEKS) - number)
        platform.put_into_the_past(logged_as)
        passed.append(Passed(week, platform.report(logged_as)))
        told(_described(passed[-1], platform.spec.monitor.drift_threshold))
        requests, said = platform.tick()
        if said and passed[-1].report.score is not None:
            told(f"{'':13}sensor: {said.removeprefix(f'{MODEL}: ')}")
        for request in requests:
            now = week + timedelta(weeks=1)
            told(f"{'':13}sensor: {request.tags[BECAUSE]}; it is trained again, on the flights of the last months")
            arrive(platform, flights, [now.replace(month=now.month - 1, day=1), now.replace(day=1)], until=now)
            platform.ask(of_week)  # what the log has of now is replayed
            platform.serving.stop()
            known = len(platform.lake.entries(f"{MODEL}/rollouts"))
            with platform.asked_all_the_time(of_week):
                platform.train(dict(request.tags))
            for step in platform.lake.entries(f"{MODEL}/rollouts")[known:]:
                told(f"{'':13}version {step['version']} {step['state']}: {step['found']}")
    return passed


def _described(passed: Passed, threshold: float) -> str:
    report, week = passed.report, f"{passed.week:%-d %B}"
    if report.score is None:
        return f"{week:<13}version {report.model_version}  no score: {report.reason or report.status}"
    drifted = ", ".join(name for name, has in report.drifted.items() if has) or "nothing"
    verdict = f"above {threshold:g}, ModelDriftDetected" if report.score > threshold else f"at most {threshold:g}"
    right = report.metrics.get("accuracy", float("nan"))
    return (
        f"{week:<13}version {report.model_version}  {right:.0%} right  drift {report.score:.2f}, {verdict}: {drifted}"
    )


def demo_spec() -> ModelSpec:
    """The model that ships, watched and retrained, and without the data that it ships with."""
    shipped = defined_spec(MODEL)
    assert shipped is not None
    source = {name: value for name, value in shipped.source.model_dump(exclude_unset=True).items() if name != "example"}
    return ModelSpec.model_validate(shipped.model_dump(exclude_unset=True) | CHANGES | {"source": source})


def arrive(platform: Platform, flights: Path, months: Sequence[date], until: date) -> None:
    """Have the source hold the flights of these months, as far as they have been flown by a day."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    store = platform.lake.store
    for item in store.list("flights/*.parquet"):
        store.delete(item.key)
    for month in months:
        table = pq.read_table(flights / f"{month:%Y-%m}.parquet")
        flown = (pc.field("month") < until.month) | (pc.field("day") < until.day) | pc.scalar(until.year > month.year)
        file = flights / "arrived.parquet"
        pq.write_table(table.filter(flown), file)
        store.upload(file, f"flights/{month:%Y-%m}.parquet")


def flights_of(folder: Path, week: date) -> list[Flight]:
    """Some flights of a week, as they were flown; what was cancelled was not."""
    import duckdb

    asked = ("carrier", "origin", "dest", "distance", "month", "hour", "dep_delay")
    query = (
        f"SELECT {', '.join(asked)}, arr_delay > 15 AS late FROM '{folder}/2013-*.parquet' "
        "WHERE dep_delay IS NOT NULL AND arr_delay IS NOT NULL AND make_date(year, month, day) BETWEEN ? AND ? "
        "ORDER BY hash(year, month, day, carrier, flight, origin) LIMIT ?"
    )
    rows = duckdb.execute(query, [week, week + timedelta(days=6), FLIGHTS_A_WEEK]).fetchall()
    return [Flight(dict(zip(asked, row, strict=False)), int(row[-1])) for row in rows]


def _months(numbers: Sequence[int]) -> str:
    return ", ".join(f"{date(2013, number, 1):%B}" for number in numbers)


def _post(url: str, content: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30):
        pass


def _free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


if __name__ == "__main__":
    main()
