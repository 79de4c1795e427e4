"""`make demo`: real flights in, a served prediction out, by the same command a user would type."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.handles import Evaluation, PreparedData, handle_key
from resources.environment import Environment
from resources.serving.choose_target import local_serving

if TYPE_CHECKING:
    from pathlib import Path

    from resources.lake.lake import Lake

MODEL = "flight_delay"
SHOWN = ("carrier", "origin", "dest", "hour", "dep_delay")
FLIGHTS = 8


def main() -> None:
    """Run the whole life cycle, ask the endpoint about flights it has not seen, and say where to look next."""
    environment = Environment.read()
    lake = environment.lake()
    environment.home.mkdir(parents=True, exist_ok=True)
    seconds = materialize(environment.home / "demo.log")
    evaluation = Evaluation.model_validate_json(handle(lake, "evaluation"))
    prepared = PreparedData.model_validate_json(handle(lake, "prepared_data"))
    serving = local_serving(environment)
    served = serving.current(lake.name_of(MODEL))
    assert served is not None
    url = serving.server.ensure_running()
    rows = held_out(lake, prepared)
    say(f"\n== Asking {url} (version {served.version}) about {len(rows)} flights it has not seen\n")
    print_predictions(rows, ask(f"{url}/v1/models/{lake.name_of(MODEL)}:predict", rows))
    say(f"\n== On all {prepared.test_rows:,} held-out flights\n")
    for name, value in evaluation.metrics.items():
        say(f"  {name:<12}{value:8.4f}")
    plots = lake.fetch(evaluation.prefix, evaluation.version)
    say(
        f"""
== Done: from source files to a served model in {seconds:.0f} s. Where to look next

  make dev                     the Dagster UI on the same state: http://127.0.0.1:3000/asset-groups
  {environment.mlflow_server().url:<28} MLflow: runs, metrics, model versions
  {plots}   plots and the model card
  mlops_assets/defs/{MODEL}/defs.yaml   all of it came from this file
  make stop                    ends the model server and MLflow"""
    )


def materialize(log: Path) -> float:
    """Materialize the model's assets, show how it goes, and give the seconds it took."""
    command = ["job", "execute", "-m", "mlops_assets.definitions", "-j", MODEL]
    say(f"== dagster {' '.join(command)}\n   (the whole log: {log})\n")
    with dg.DagsterInstance.get() as instance, log.open("w") as file:
        start, began = time.monotonic(), datetime.now(UTC)
        command = [sys.executable, "-m", "dagster", *command]
        with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
            cursor = None
            while True:
                ended = process.poll() is not None
                lines, cursor = progress(instance, began, cursor)
                for line in lines:
                    say(f"  {time.monotonic() - start:5.1f} s  {line}")
                if ended:
                    break
                time.sleep(0.5)
    if process.returncode:
        say(f"\nIt failed; the end of {log}:\n{''.join(log.read_text().splitlines(keepends=True)[-15:])}")
        raise SystemExit(process.returncode)
    return time.monotonic() - start


def progress(instance: dg.DagsterInstance, began: datetime, cursor: str | None) -> tuple[list[str], str | None]:
    """What the event log has since `cursor` of the run that began after a moment: what the stages do and log."""
    runs = instance.get_runs(limit=1, filters=dg.RunsFilter(created_after=began))
    if not runs:
        return [], None
    found = instance.get_records_for_run(runs[0].run_id, cursor)
    lines = list[str]()
    for record in found.records:
        event = record.event_log_entry.dagster_event
        stage = (record.event_log_entry.step_key or "").removeprefix(f"{MODEL}__")
        if event is None and stage:
            lines.append(f"   {record.event_log_entry.user_message}")
        elif event is not None and (event.is_step_start or event.is_step_success):
            lines.append(f"{stage} {'...' if event.is_step_start else 'done'}")
    return lines, found.cursor


def handle(lake: Lake, stage: str) -> bytes:
    """The newest handle of a stage."""
    content = lake.store.read(lake.own(handle_key(f"{MODEL}/{stage}")))
    assert content is not None
    return content


def held_out(lake: Lake, prepared: PreparedData) -> list[dict[str, Any]]:
    """A few flights of the test part: half of them late."""
    import pyarrow.parquet as pq

    table = pq.read_table(lake.fetch(prepared.prefix, prepared.version) / "test.parquet").slice(0, 500)
    columns = [name for name in table.column_names if name not in ("time_hour", "arr_delay")]
    rows = table.select(columns).to_pylist()
    halves = [[row for row in rows if row["late"] == late][: FLIGHTS // 2] for late in (0, 1)]
    return [row for pair in zip(*halves, strict=True) for row in pair]


def ask(url: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of the endpoint at `url`."""
    instances = [{name: value for name, value in row.items() if name != "late"} for row in rows]
    request = urllib.request.Request(url, json.dumps({"instances": instances}).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["predictions"]


def print_predictions(rows: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> None:
    """Each flight, what the model said and what came true."""
    say("  " + "".join(f"{name:<11}" for name in SHOWN) + f"{'P(late)':<11}{'predicted':<11}it was")
    words = {0: "on time", 1: "late"}
    for row, prediction in zip(rows, predictions, strict=True):
        shown = "".join(f"{row[name]:<11g}" if isinstance(row[name], float) else f"{row[name]:<11}" for name in SHOWN)
        chance = f"{prediction['probabilities'][1]:.3f}"
        say(f"  {shown}{chance:<11}{words[prediction['label']]:<11}{words[row['late']]}")


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
