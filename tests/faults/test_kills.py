"""Kill campaigns: kill -9 at random moments of a real run; one more materialize must put everything right."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from resources.environment import Environment
from resources.lake.digests import sha256
from resources.lake.lake import Lake
from resources.serving.choose_target import local_serving
from resources.tracking.mlflow_tracking import Tracking
from tests.support import attributes, free_port, post, weather

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

PROJECT = Path(__file__).parents[2]
KILLS = int(os.environ.get("MLOPS_KILLS", "30"))
MODEL = "weather"
ROW = {"place": "Bern", "pressure": 990.0, "humidity": 95.0}


class Machine:
    """One machine with its own copy of the code, one model, and servers that outlive every kill."""

    def __init__(self, folder: Path) -> None:
        self.code = folder / "code"
        self.code.mkdir(parents=True)
        for name in ("mlops_assets", "resources"):
            shutil.copytree(PROJECT / name, self.code / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(PROJECT / "pyproject.toml", self.code / "pyproject.toml")
        for shipped in (self.code / "mlops_assets/defs").iterdir():
            shutil.rmtree(shipped)
        self.home = folder / "home"
        self.variables = os.environ | {
            "MLOPS_HOME": str(self.home),
            "DAGSTER_HOME": str(self.home / "dagster"),
            "PYTHONPATH": str(self.code),
            "SERVING_PORT": str(free_port()),
            "MLFLOW_PORT": str(free_port()),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }
        (self.home / "dagster").mkdir(parents=True)
        self.environment = Environment.read(self.variables)
        self.lake = Lake(uri=self.environment.lake_uri, cache=str(self.home / "cache"))
        self.tracking = Tracking(uri=self.environment.mlflow_server().url, lake=self.lake)
        self.serving = local_serving(self.environment)

    def configure(self, seed: int) -> None:
        """Write the model's YAML; another seed gives another model, and the whole life cycle after the features."""
        model = attributes(
            model=MODEL,
            train={
                "network": "mlops_assets.ml.networks.MLP",
                "params": {"hidden": [32], "dropout": 0.1},
                "epochs": 30,
                "batch_size": 16,
                "learning_rate": 0.003,
                "seed": seed,
                "checkpoint_every": "1s",
            },
            gate={"metric": "roc_auc", "at_least": 0.6, "beats_champion_by": -1.0},
        )
        place = self.code / "mlops_assets/defs" / MODEL
        place.mkdir(exist_ok=True)
        (place / "defs.yaml").write_text(yaml.safe_dump({"type": "mlops_assets.ModelPipeline", "attributes": model}))

    def put(self, seed: int) -> None:
        """Replace the source object."""
        file = self.home / "rows.csv"
        weather(3_000, seed=seed).to_csv(file, index=False)
        self.lake.store.upload(file, "weather/rows.csv")

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "mlops_assets.definitions"]
        log = (self.home / "run.log").open("wb")
        return subprocess.Popen(
            [*command, "-j", MODEL],
            cwd=self.code,
            env=self.variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def finish(self, started: subprocess.Popen[bytes] | None = None) -> None:
        """One materialize, or one that was started, to its end."""
        process = started or self.start()
        assert process.wait() == 0, (self.home / "run.log").read_text()[-3000:]

    def handle(self, stage: str) -> dict[str, str]:
        content = self.lake.store.read(f"{MODEL}/{stage}/handles/latest.json")
        assert content is not None
        return json.loads(content)

    def weights(self) -> str:
        """The digest of the newest weights and graph."""
        handle = self.handle("trained_model")
        folder = self.lake.fetch(handle["prefix"], handle["version"])
        return sha256(folder / "weights.safetensors") + sha256(folder / "model.onnx")

    def close(self) -> None:
        self.serving.stop()
        self.environment.mlflow_server().stop()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Machine]]:
    """One that is killed, and one that runs undisturbed, each with the embedded MLflow server of its own."""
    folder = tmp_path_factory.mktemp("machines")
    made = Machine(folder / "killed"), Machine(folder / "whole")
    yield made
    for machine in made:
        machine.close()


def check_consistent(machine: Machine) -> None:
    """Registry, endpoint, ledger and lake tell the same story."""
    champion = machine.tracking.by_alias(MODEL, "champion")
    assert champion is not None
    trained = machine.handle("trained_model")
    assert champion.sha256 == trained["sha256"]
    served = machine.serving.current(MODEL)
    assert served is not None
    assert (served.version, served.sha256) == (str(champion.version), champion.sha256)
    code, answer = post(f"{machine.serving.server.url}/v1/models/{MODEL}:predict", {"instances": [ROW]})
    assert (code, answer["model_version"]) == (200, str(champion.version))
    entries = machine.lake.entries(f"{MODEL}/ledger")
    assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))
    moves = [entry for entry in entries if entry["alias"] == "champion"]
    assert moves[-1]["version"] == champion.version
    versions = machine.tracking.client.search_model_versions(f"name = '{MODEL}'")
    digests = [version.tags["sha256"] for version in versions]
    assert len(digests) == len(set(digests)), "a version was registered twice"
    experiment = machine.tracking.client.get_experiment_by_name(MODEL)
    assert experiment is not None
    runs = machine.tracking.client.search_runs([experiment.experiment_id])
    assert "RUNNING" not in {run.info.status for run in runs}
    ids = [run.data.tags["dagster_run_id"] for run in runs]
    assert len(ids) == len(set(ids)), "a Dagster run has two MLflow runs"


def kill_in(machine: Machine, stage: str, share: float, durations: dict[str, float]) -> bool:
    """Start a run and kill it after `share` of the stage's usual time; False when it ended before."""
    process = machine.start()
    log = machine.home / "run.log"
    while process.poll() is None and f"__{stage} - " not in log.read_text(errors="replace"):
        time.sleep(0.01)
    time.sleep(share * durations[stage])
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def durations_in(machine: Machine) -> dict[str, float]:
    """The seconds each stage of the last run took."""
    moments: dict[str, list[float]] = {}
    for line in (machine.home / "run.log").read_text().splitlines():
        found = re.match(rf"(\S+ \S+) .*{MODEL}__(\w+) - (STEP_START|STEP_SUCCESS)", line)
        if found:
            moment = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            moments.setdefault(found[2], []).append(moment.timestamp())
    return {stage: max(times) - min(times) + 0.5 for stage, times in moments.items()}


# Of each life cycle one run is killed in a stage of each group, in this order: what comes after is still to be done
GROUPS = (
    ("raw_data", "prepared_data", "features"),
    ("trained_model",),
    ("evaluation", "registered_model", "deployment"),
)


def test_after_a_kill_at_any_moment_one_materialize_puts_everything_right(machines: tuple[Machine, Machine]) -> None:
    killed, whole = machines
    generator = random.Random(7)
    for machine in machines:
        machine.put(0)
        machine.configure(0)
        machine.finish()
    durations = durations_in(whole)
    kills = dict.fromkeys((stage for group in GROUPS for stage in group), 0)
    cycles = 0
    while sum(kills.values()) < KILLS:
        cycles += 1
        for machine in machines:
            machine.put(cycles)
            machine.configure(cycles)
        undisturbed = whole.start()
        for group in GROUPS:
            stage = min(group, key=lambda name: (kills[name], generator.random()))
            if kill_in(killed, stage, generator.random(), durations):
                kills[stage] += 1
            code, _ = post(f"{killed.serving.server.url}/v1/models/{MODEL}:predict", {"instances": [ROW]})
            assert code == 200, f"the champion did not answer after a kill in {stage}"
        killed.finish()
        whole.finish(undisturbed)
        assert killed.weights() == whole.weights()
        check_consistent(killed)
    print(f"\n{sum(kills.values())} kills, {kills}; {cycles} life cycles, all bit-identical")
    assert all(kills.values())


def test_a_model_server_killed_again_and_again_keeps_what_it_serves(machines: tuple[Machine, Machine]) -> None:
    _, whole = machines
    whole.put(0)
    whole.configure(0)
    whole.finish()
    before = whole.serving.current(MODEL)
    assert before is not None
    for delay in (0.0, 0.3, 0.8, 1.5):
        pid = whole.serving.server.pid()
        assert pid is not None
        os.killpg(pid, signal.SIGKILL)
        while whole.serving.server.pid() is not None:
            time.sleep(0.01)
        whole.serving.server.launch()
        time.sleep(delay)
    whole.serving.server.ensure_running()
    assert whole.serving.current(MODEL) == before
    code, answer = post(f"{whole.serving.server.url}/v1/models/{MODEL}:predict", {"instances": [ROW]})
    assert (code, answer["model_version"]) == (200, before.version)
