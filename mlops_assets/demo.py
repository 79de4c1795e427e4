"""`make demo`: real flights in, a served prediction out, by the same command a user would type."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from mlops_assets.assets.handles import Evaluation, PreparedData
from resources.environment import Environment
from resources.lake.lake import Lake
from resources.serving.local_serving import LocalServing

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "flight_delay"
SHOWN = ("carrier", "origin", "dest", "hour", "dep_delay")
LOG_LINE = re.compile(r" - (DEBUG|INFO|ERROR) - \S+ - \S+ - (?:\d+ - )?(?P<what>.*)$")
STEP = re.compile(rf"{MODEL}__(\w+) - (?:(STEP_START|STEP_SUCCESS)|(?P<said>(?![A-Z_]{{6,}} - ).*))")
FLIGHTS = 8


def main() -> None:
    """Run the whole life cycle, ask the endpoint about flights it has not seen, and say where to look next."""
    environment = Environment.read()
    lake = Lake(uri=environment.lake_uri, cache=str(environment.home / "cache"))
    environment.home.mkdir(parents=True, exist_ok=True)
    seconds = materialize(environment.home / "demo.log")
    evaluation = Evaluation.model_validate_json(handle(lake, "evaluation"))
    prepared = PreparedData.model_validate_json(handle(lake, "prepared_data"))
    serving = LocalServing(state=str(environment.home / "serving"), port=environment.serving_port)
    served = serving.current(MODEL)
    assert served is not None
    url = serving.server.ensure_running()
    rows = held_out(lake, prepared)
    say(f"\n== Asking {url} (version {served.version}) about {len(rows)} flights it has not seen\n")
    print_predictions(rows, ask(url, rows))
    say(f"\n== On all {prepared.test_rows:,} held-out flights\n")
    for name, value in evaluation.metrics.items():
        say(f"  {name:<12}{value:8.4f}")
    plots = lake.fetch(evaluation.place, evaluation.version)
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
    """Materialize the model's assets, tell how it goes, and give the seconds it took."""
    command = ["asset", "materialize", "-m", "mlops_assets.definitions", "--select", f"group:{MODEL}"]
    say(f"== dagster {' '.join(command)}\n   (the whole log: {log})\n")
    start = time.monotonic()
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "dagster", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if told := told_by(line):
                say(f"  {time.monotonic() - start:5.1f} s  {told}")
    if process.returncode:
        say(f"\nIt failed; the end of {log}:\n{''.join(log.read_text().splitlines(keepends=True)[-15:])}")
        raise SystemExit(process.returncode)
    return time.monotonic() - start


def told_by(line: str) -> str | None:
    """What a line of Dagster's log says about a stage, or None."""
    found = LOG_LINE.search(line)
    step = STEP.search(found["what"]) if found else None
    if step is None:
        return None
    if step[2] is None:
        return f"   {step['said']}"
    return f"{step[1]} {'...' if step[2] == 'STEP_START' else 'done'}"


def handle(lake: Lake, stage: str) -> bytes:
    """The newest handle of a stage."""
    content = lake.store.read(f"{MODEL}/{stage}/handles/latest.json")
    assert content is not None
    return content


def held_out(lake: Lake, prepared: PreparedData) -> list[dict[str, Any]]:
    """A few flights of the test part: half of them late."""
    import pyarrow.parquet as pq

    table = pq.read_table(lake.fetch(prepared.place, prepared.version) / "test.parquet").slice(0, 500)
    columns = [name for name in table.column_names if name not in ("time_hour", "arr_delay")]
    rows = table.select(columns).to_pylist()
    halves = [[row for row in rows if row["late"] == late][: FLIGHTS // 2] for late in (0, 1)]
    return [row for pair in zip(*halves, strict=True) for row in pair]


def ask(url: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The endpoint's answers."""
    instances = [{name: value for name, value in row.items() if name != "late"} for row in rows]
    request = urllib.request.Request(f"{url}/v1/models/{MODEL}:predict", json.dumps({"instances": instances}).encode())
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
