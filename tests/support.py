"""What the tests share: a small model's YAML, and the whole platform on a temporary folder with real servers."""

from __future__ import annotations

import copy
import json
import socket
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd

from mlops_assets import ModelPipeline
from mlops_assets.assets.handles import HandleIOManager, PreparedData
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.learners import learner_for
from mlops_assets.spec.load_spec import load_spec
from resources.features.online_store import OnlineStore
from resources.kubernetes.training_jobs import TrainingJobs
from resources.lake.folder_store import FolderStore
from resources.lake.lake import Lake
from resources.lake.lake_checkpoints import LakeCheckpoints
from resources.serving.local_serving import LocalServing
from resources.tracking.mlflow_tracking import Tracking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlops_assets.ml.training.learner import Learner
    from mlops_assets.ml.training.training_config import TrainingConfig
    from mlops_assets.spec.model_spec import ModelSpec

BASE: dict[str, Any] = {
    "model": "weather",
    "task": "binary_classification",
    "source": {"uri": "weather/*.csv"},
    "target": {"column": "rain"},
    "columns": {
        "place": {"type": "category"},
        "pressure": {"type": "number", "min": 900, "max": 1100},
        "humidity": {"type": "number", "nullable": True},
        "rain": {"type": "boolean"},
    },
    "features": {"use": ["place", "pressure", "humidity"]},
    "train": {"network": "sklearn.linear_model.LogisticRegression"},
    "gate": {"metric": "accuracy", "at_least": 0.6},
}
TORCH = {
    "network": "mlops_assets.ml.networks.MLP",
    "params": {"hidden": [8]},
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.01,
}


def attributes(*removed: str, **changed: Any) -> dict[str, Any]:
    """The base YAML with dotted fields removed, and others changed (`train__epochs=3`)."""
    made = copy.deepcopy(BASE)
    for path, value in changed.items():
        *parents, last = path.split("__")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = copy.deepcopy(value)
    for path in removed:
        *parents, last = path.split(".")
        place = made
        for parent in parents:
            place = place[parent]
        del place[last]
    return made


def spec(**changed: Any) -> ModelSpec:
    """A valid spec."""
    return load_spec(attributes(**changed), None, "defs.yaml")


def weather(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Rows that fit the base YAML; rain follows from low pressure and high humidity, with noise."""
    generator = np.random.default_rng(seed)
    pressure = np.round(generator.normal(1013, 9, rows).clip(950, 1060), 2)
    humidity = np.round(generator.uniform(20, 100, rows), 2)
    wet = (1013 - pressure) / 9 + (humidity - 60) / 20 + generator.normal(0, 0.7, rows) > 0
    humidity[generator.random(rows) < 0.05] = np.nan
    place = generator.choice(["Bern", "Genève", "Zürich"], rows)
    return pd.DataFrame({"place": place, "pressure": pressure, "humidity": humidity, "rain": wet})


def prepared(**changed: Any) -> PreparedData:
    """The handle of prepared rows of the base YAML, with fields changed."""
    made: dict[str, Any] = {
        "prefix": "weather/prepared_data",
        "version": "v1",
        "train_rows": 8,
        "validation_rows": 1,
        "test_rows": 2,
        "classes": (False, True),
        "target": "rain",
        "split_id": "i",
    }
    return PreparedData(**made | changed)


def fit(features: Path, out: Path, config: TrainingConfig, checkpoint_every_s: float = 60, **run: Any) -> Learner:
    """Fit a learner as the stage does, with its checkpoints in `out`/checkpoints."""
    out.mkdir(exist_ok=True)
    learner = learner_for(config, FeatureSet.read(features))
    checkpoints = LakeCheckpoints(FolderStore(out), "checkpoints")
    learner.fit(features, out, TrainingRun(checkpoints, timedelta(seconds=checkpoint_every_s), **run)).write(out)
    return learner


def dagster_run(run_id: str | None = None) -> Any:
    """The part of Dagster's context that is read."""
    return SimpleNamespace(run=SimpleNamespace(run_id=run_id or uuid.uuid4().hex, job_name="job"))


def wait_until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    """Wait until this holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s"
        time.sleep(0.05)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


JOBS: list[dg.JobDefinition] = []


def job_to_reexecute() -> dg.JobDefinition:
    """What Dagster imports by its name to execute a run again."""
    return JOBS[0]


@dataclass
class Platform:
    """Lake, MLflow and model server of one test."""

    home: Path
    mlflow_uri: str
    serving_port: int = field(default_factory=free_port)
    lake_uri: str | None = None
    endpoint_url: str | None = None
    pipeline: type[ModelPipeline] = ModelPipeline
    space: str = ""
    model: str = field(default_factory=lambda: f"weather_{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        uri = self.lake_uri or str(self.home / "lake")
        cache = str(self.home / "cache")
        self.lake = Lake(uri=uri, cache=cache, endpoint_url=self.endpoint_url, space=self.space)
        self.tracking = Tracking(uri=self.mlflow_uri, lake=self.lake)
        log_uri = uri if self.endpoint_url is None else None
        self.serving = LocalServing(state=str(self.home / "serving"), port=self.serving_port, lake_uri=log_uri)
        self.online_store = OnlineStore(self.home / "features")
        self.instance = dg.DagsterInstance.ephemeral()

    def put(self, rows: pd.DataFrame, name: str = "a.csv") -> None:
        """Write rows as a source object."""
        file = self.home / name
        rows.to_csv(file, index=False)
        self.lake.store.upload(file, f"weather/{name}")

    def spec(self, **changed: Any) -> ModelSpec:
        """The base spec under this platform's model name."""
        return spec(**{"model": self.model, **changed})

    def definitions(self, model: ModelSpec) -> dg.Definitions:
        """The model's definitions on this platform."""
        resources = {
            "lake": self.lake,
            "io_manager": HandleIOManager(lake=self.lake),
            "tracking": self.tracking,
            "training_jobs": TrainingJobs(available=False),
            "serving": self.serving,
            "online_store": self.online_store,
        }
        made = self.pipeline(model).build_defs(None)  # pyright: ignore[reportArgumentType]
        return dg.Definitions.merge(made, dg.Definitions(resources=resources, executor=dg.in_process_executor))

    def run(
        self, model: ModelSpec | None = None, job: str | None = None, **arguments: Any
    ) -> dg.ExecuteInProcessResult:
        """Run the model's job in this process; failures come back in the result."""
        model = model or self.spec()
        found = self.definitions(model).resolve_job_def(job or model.model)
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        if "partition_key" not in arguments:
            arguments["run_config"] = quiet | arguments.get("run_config", {})
        return found.execute_in_process(instance=self.instance, raise_on_error=False, **arguments)

    def materialize(self, *stages: str, model: ModelSpec | None = None, **config: Any) -> dg.ExecuteInProcessResult:
        """Materialize some stages alone; `config` is what the run says about a stage."""
        model = model or self.spec()
        selection = [dg.AssetKey([model.model, name]) for name in stages]
        configured = {"ops": {f"{model.model}__{name}": {"config": value} for name, value in config.items()}}
        return self.run(model, asset_selection=selection, run_config=configured)

    def reexecute(self, run_id: str, model: ModelSpec | None = None) -> dg.JobExecutionResult:
        """Execute a run again from its failure, with its configuration and tags, as Dagster's page of the run does."""
        parent = self.instance.get_run_by_id(run_id)
        assert parent is not None
        model = model or self.spec()
        name = parent.job_name if parent.job_name.startswith(model.model) else model.model
        JOBS[:] = [self.definitions(model).resolve_job_def(name)]
        with dg.execute_job(
            dg.reconstructable(job_to_reexecute),
            instance=self.instance,
            run_config=parent.run_config,
            tags={key: value for key, value in parent.tags.items() if key.startswith("dagster/partition")},
            reexecution_options=dg.ReexecutionOptions.from_failure(run_id, self.instance),
        ) as result:
            return result

    def champion(self) -> int | None:
        """The champion's version in the registry."""
        found = self.tracking.by_alias(self.model, "champion")
        return found.version if found else None

    def ask(self, rows: list[dict[str, Any]] | None = None, model: str | None = None) -> dict[str, Any]:
        """A prediction over HTTP."""
        rows = rows or [{"place": "Bern", "pressure": 990, "humidity": 95}]
        name = self.lake.name_of(model or self.model)
        return post(f"{self.serving.server.url}/v1/models/{name}:predict", {"instances": rows})[1]

    def served(self) -> str:
        """The version that answers."""
        return self.ask()["model_version"]

    def mlflow_runs(self) -> list[Any]:
        """All MLflow runs of the model."""
        client = self.tracking.client
        experiment = client.get_experiment_by_name(self.lake.name_of(self.model))
        return list(client.search_runs([experiment.experiment_id])) if experiment else []


def post(url: str, body: Any) -> tuple[int, Any]:
    """Status and JSON of a POST; `body` is sent as JSON, or as it is when it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The message of the one step that failed."""
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    if data.user_failure_data is not None:
        return str(data.user_failure_data.description)
    return str(data.error.cause.message if data.error.cause else data.error.message)


def messages(result: dg.ExecuteInProcessResult) -> str:
    """Everything that went wrong in a run, for a failed assertion."""
    return "\n".join(str(event.event_specific_data) for event in result.all_events if event.is_step_failure)


def check_results(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The evaluations of asset checks by name."""
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
