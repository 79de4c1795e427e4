"""The closed loop with every part real: Prometheus, Alertmanager, exporter, daemon, MLflow and model server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import yaml

from mlops_assets.drift_demo import put_log_into_the_past
from resources.environment import PROJECT, Environment
from resources.tracking.alias_ledger import AliasLedger
from tests.promtool import rules
from tests.support import attributes, free_port, post, wait_until, weather

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from datetime import date
    from pathlib import Path

    import pandas as pd

MODEL = "weather"
THRESHOLD = 0.2  # the column that moves has a quarter of the importance
ROLLOUT = {
    "max_changed": 1,  # the champion is wrong where the traffic has moved to
    "shadow_requests": 20,
    "shadow_percent": 50,
    "canary_requests": 20,
    "canary_percent": 50,
    "bake": "2s",
}
DEFINITION = {
    "type": "mlops_assets.ModelPipeline",
    "attributes": attributes(
        owners=["team:weather"],
        gate={"metric": "accuracy", "at_least": 0.6, "beats_champion_by": -1},
        deploy={"rollout": ROLLOUT},
        monitor={"window": "1d", "min_rows": 200, "drift_threshold": THRESHOLD},
        retrain={"drifted_windows": 1, "of_windows": 1, "cooldown": "1s"},
    ),
}


def shifted(rows: int, seed: int) -> pd.DataFrame:
    """Weather in a place where the pressure is higher, and it rains all the same."""
    table = weather(rows, seed)
    return table.assign(pressure=(table["pressure"] + 30).clip(upper=1099))


class Receiver:
    """Where Alertmanager sends its alerts to."""

    def __init__(self) -> None:
        told = self.told = list[dict[str, Any]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.extend(body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def states(self, alert: str) -> list[str]:
        """What was told of an alert, in its order."""
        return [found["status"] for found in self.told if found["labels"]["alertname"] == alert]


class Loop:
    """A copy of this project with one model, and what runs around it."""

    def __init__(self, home: Path, processes: ExitStack) -> None:
        self.home, self.project, self.processes = home, home / "project", processes
        for name in ("mlops_assets", "resources"):
            shutil.copytree(PROJECT / name, self.project / name, ignore=shutil.ignore_patterns("__pycache__", "defs"))
        for name in ("pyproject.toml", "workspace.yaml"):
            shutil.copyfile(PROJECT / name, self.project / name)
        defs = self.project / "mlops_assets" / "defs" / MODEL
        defs.mkdir(parents=True)
        (defs / "defs.yaml").write_text(yaml.safe_dump(DEFINITION))
        (home / "dagster").mkdir()
        (home / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        ports = ("MLFLOW_PORT", "SERVING_PORT", "EXPORTER_PORT", "MLOPS_FEATURES_PORT")
        own = {"MLOPS_HOME": str(home / "mlops"), "DAGSTER_HOME": str(home / "dagster")}
        own |= {port: str(free_port()) for port in ports} | {"PYTHONPATH": str(self.project)}
        self.environment, self.variables = Environment.read(own), os.environ | own
        self.lake, self.prometheus = self.environment.lake(), free_port()
        self.asked, self.moved = 0, set[str]()

    def dagster(self, *arguments: str) -> None:
        """Run one of Dagster's commands to its end."""
        command = [sys.executable, "-m", "dagster", *arguments, "-m", "mlops_assets.definitions"]
        done = subprocess.run(
            command, cwd=self.project, env=self.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def start(self, name: str, *command: str) -> None:
        """Have a process run until the end of the test; what it says is in the folder."""
        log = self.processes.enter_context((self.home / f"{name}.log").open("w"))
        process = subprocess.Popen(command, cwd=self.project, env=self.variables, stdout=log, stderr=log)

        def end() -> None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

        self.processes.callback(end)

    def watch(self, receiver: Receiver) -> None:
        """Exporter, Prometheus with our rules, which wait seconds where production's wait minutes, and Alertmanager."""
        groups = rules()
        for rule in (rule for group in groups for rule in group["rules"]):
            if "for" in rule:
                rule["for"] = "3s"
        alertmanager = free_port()
        files: dict[str, Any] = {
            "rules.yaml": {
                "groups": [{key: item for key, item in group.items() if key != "interval"} for group in groups]
            },
            "prometheus.yaml": {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["rules.yaml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
                "scrape_configs": [
                    {
                        "job_name": "exporter",
                        "static_configs": [{"targets": [f"127.0.0.1:{self.environment.exporter_port}"]}],
                    }
                ],
            },
            "alertmanager.yaml": {
                "route": {"receiver": "test", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"},
                "receivers": [
                    {
                        "name": "test",
                        "webhook_configs": [{"url": f"http://127.0.0.1:{receiver.server.server_port}/"}],
                    }
                ],
            },
        }
        for name, content in files.items():
            (self.home / name).write_text(yaml.safe_dump(content))
        self.start("exporter", sys.executable, "-m", "mlops_assets.cli", "exporter")
        self.start(
            "alertmanager",
            "alertmanager",
            f"--config.file={self.home}/alertmanager.yaml",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            f"--storage.path={self.home}/alerts",
            "--cluster.listen-address=",
        )
        self.start(
            "prometheus",
            "prometheus",
            f"--config.file={self.home}/prometheus.yaml",
            f"--web.listen-address=127.0.0.1:{self.prometheus}",
            f"--storage.tsdb.path={self.home}/series",
        )

    def query(self, path: str) -> Any:
        """What Prometheus answers; None until it does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.prometheus}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, metric: str) -> float | None:
        """The newest value of a metric of the one model."""
        found = self.query(f"query?query={metric}")
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def alert(self, name: str) -> str | None:
        """The state of an alert in Prometheus."""
        found = self.query("alerts")
        states = [each["state"] for each in found["alerts"] if each["labels"]["alertname"] == name] if found else []
        return states[0] if states else None

    def ask(self, table: pd.DataFrame) -> str:
        """Ask about rows and tell the truth about them; the version that answered."""
        self.asked += 1
        rows = table.drop(columns="rain").astype(object).where(table.drop(columns="rain").notna(), None)
        url, request = f"http://127.0.0.1:{self.environment.serving_port}/v1/models/{MODEL}", f"asked-{self.asked}"
        status, answer = post(f"{url}:predict", {"id": request, "instances": rows.to_dict("records")})
        assert status == 200, answer
        labels = [{"id": request, "row": row, "label": bool(rain)} for row, rain in enumerate(table["rain"])]
        assert post(f"{url}/feedback", {"labels": labels})[0] == 200
        return str(answer["model_version"])

    def stored(self, kind: str) -> int:
        """How many of our requests the files of a kind are about."""
        files = (self.environment.home / "lake" / kind / MODEL).rglob("*.parquet")
        ids = {request for file in files for request in pq.read_table(file)["request_id"].to_pylist()}
        return len({request for request in ids if request.startswith("asked-")})

    def report(self, day: date) -> None:
        """Have all that was asked since the last report be of a day that has passed, and materialize its report."""
        for kind in ("inference", "labels"):
            wait_until(lambda kind=kind: self.stored(kind) >= self.asked, 120)
        put_log_into_the_past(self.lake, MODEL, day, self.moved)
        selection = f"{MODEL}/inference_log,{MODEL}/drift_report"
        self.dagster("asset", "materialize", "--select", selection, "--partition", str(day))

    @contextmanager
    def asked_all_the_time(self) -> Generator[None]:
        """Ask about rows, one request after the other; a request that fails makes the block fail."""
        ended, failed = threading.Event(), list[BaseException]()

        def ask() -> None:
            try:
                while not ended.wait(0.05):
                    self.ask(shifted(5, self.asked))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert failed == []


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    missing = [name for name in ("prometheus", "alertmanager") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not on PATH: {', '.join(missing)}")
    with ExitStack() as processes:
        made = Loop(tmp_path, processes)
        yield made
        subprocess.run([sys.executable, "-m", "mlops_assets.cli", "servers", "stop"], env=made.variables, check=True)


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_a_shift_fires_an_alert_and_brings_a_champion_after_which_it_is_quiet(loop: Loop, tmp_path: Path) -> None:
    def put(table: pd.DataFrame, name: str) -> None:
        table.to_csv(tmp_path / name, index=False)
        loop.lake.store.upload(tmp_path / name, f"weather/{name}")

    days = [datetime.now(UTC).date() - timedelta(days=ago) for ago in (3, 2, 1)]
    put(weather(600), "a.csv")
    loop.dagster("job", "execute", "-j", MODEL)
    receiver = Receiver()
    loop.watch(receiver)
    wait_until(lambda: loop.value("model_champion_version") == 1, 120)
    assert loop.ask(weather(300, seed=8)) == "1"
    loop.report(days[0])
    wait_until(lambda: loop.value("model_drift_score") is not None, 120)
    assert loop.value("model_drift_score") == pytest.approx(0, abs=THRESHOLD)
    assert loop.alert("ModelDriftDetected") is None

    # The traffic moves; the sensor is not running yet, so that the alert is seen to wait and to fire
    for seed in range(2, 5):
        assert loop.ask(shifted(300, seed)) == "1"
    loop.report(days[1])
    wait_until(lambda: loop.alert("ModelDriftDetected") == "pending", 120)
    wait_until(lambda: receiver.states("ModelDriftDetected") == ["firing"], 120)
    [told] = [alert for alert in receiver.told if alert["labels"]["alertname"] == "ModelDriftDetected"]
    assert (told["labels"]["model"], told["labels"]["owner"]) == (MODEL, "team:weather")
    score = loop.value("model_drift_score")
    assert score is not None and score > THRESHOLD
    assert f"{score:.2f}" in told["annotations"]["summary"]

    loop.lake.store.delete("weather/a.csv")
    put(shifted(600, seed=9), "b.csv")
    with loop.asked_all_the_time():
        loop.start("daemon", sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml")
        wait_until(lambda: loop.value("model_champion_version") == 2, 420)
    wait_until(lambda: loop.ask(shifted(5, 0)) == "2", 60)
    [moved] = AliasLedger(loop.lake, MODEL).moves("champion")[1:]
    assert re.match("1 of the last 1 windows have drifted", moved.evidence["mlops/retrain_because"])

    loop.report(days[2])
    wait_until(lambda: loop.value("model_drift_score") != score, 120)
    assert loop.value("model_drift_score") == pytest.approx(0, abs=THRESHOLD)
    wait_until(lambda: receiver.states("ModelDriftDetected") == ["firing", "resolved"], 120)
    assert loop.value("model_retrain_total") is not None
    assert loop.alert("ModelDriftDetected") is None
