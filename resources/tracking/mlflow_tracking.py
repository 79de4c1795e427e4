"""MLflow: one run per model and Dagster run, finished whatever happens, and the model registry."""

import os
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.ml.errors import TrackingError
from mlops_assets.ml.inference.artifact import MAX_BYTES
from mlops_assets.ml.values import Value
from resources.environment import Environment
from resources.lake.lake import Lake
from resources.local.background_server import started_at

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

RUN_TAG = "dagster_run_id"  # dagster-mlflow's resource finds the same run by this tag
OWNER_TAG = "mlops.owner"
CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class RegisteredVersion(Value):
    """A version in the model registry."""

    model: str
    version: int
    sha256: str
    run_id: str


class TrackedRun:
    """The MLflow run of a model in one Dagster run. All calls name the run; there is no global active run."""

    def __init__(self, client: "MlflowClient", run_id: str, address: str, experiment: str) -> None:
        self.client, self.run_id, self.address = client, run_id, address
        self.url = f"{address}/#/experiments/{experiment}/runs/{run_id}"

    def artifact_url(self, name: str) -> str:
        """Where a browser finds an artifact of the run."""
        return f"{self.address}/get-artifact?path={name}&run_uuid={self.run_id}"

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; those that are there already stay."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        fresh = [Param(key, str(value)[:6000]) for key, value in values.items() if key not in known]
        self.client.log_batch(self.run_id, params=fresh)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log one value for each metric."""
        self.series([values], first_step=step)

    def series(self, rows: Sequence[Mapping[str, float]], first_step: int = 0) -> None:
        """Log metrics for consecutive steps, in batches as large as the server takes."""
        import math
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, value, now, first_step + step)
            for step, row in enumerate(rows)
            for key, value in row.items()
            if math.isfinite(value)
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def text(self, content: str, name: str) -> None:
        """Log a text file."""
        self.client.log_text(self.run_id, content, name)

    def files(self, folder: Path, name: str) -> None:
        """Log the files of a folder under `name`."""
        self.client.log_artifacts(self.run_id, str(folder), name)


class Tracking(dg.ConfigurableResource[Any]):
    """MLflow runs and model versions. Without `uri` the embedded server is used, and started when it does not run."""

    uri: str | None
    lake: dg.ResourceDependency[Lake]

    @cached_property
    def address(self) -> str:
        """The tracking server's URL."""
        return self.uri or Environment.read().mlflow_server().ensure_running()

    def warm_up(self) -> None:
        """Start the embedded server in the background, so that it answers by the time it is needed."""
        if not self.uri:
            Environment.read().mlflow_server().launch()

    @cached_property
    def client(self) -> "MlflowClient":
        """A client that fails soon and clearly when the server cannot be reached."""
        for name, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient(self.address, self.address)
        try:
            client.search_experiments(max_results=1)
        except MlflowException as error:
            raise TrackingError(
                f"The MLflow server at {self.address} cannot be reached ({type(error).__name__})",
                remedy="start it, or correct MLFLOW_TRACKING_URI. Nothing was registered or deployed",
            ) from error
        return client

    # ---- runs ----
    @contextmanager
    def run(self, model: str, context: dg.AssetExecutionContext) -> Generator[TrackedRun]:
        """The MLflow run of `model` in this Dagster run: RUNNING inside the block, FINISHED or FAILED after it.

        Steps may call it in parallel, from several processes, or again in a retry: it is the same run.
        """
        run_id = self._run_id(model, context)
        self.client.update_run(run_id, status="RUNNING")
        experiment = self.client.get_run(run_id).info.experiment_id
        try:
            yield TrackedRun(self.client, run_id, self.address, experiment)
        except BaseException:
            self.client.set_terminated(run_id, "FAILED")
            raise
        self.client.set_terminated(run_id, "FINISHED")

    def _run_id(self, model: str, context: dg.AssetExecutionContext) -> str:
        claim = f"{model}/mlflow_runs/{context.run.run_id}"
        known = self.lake.store.read(claim)
        if known:
            return known.decode()
        self._end_abandoned(model)
        tags = {RUN_TAG: context.run.run_id, "mlops.model": model, OWNER_TAG: _owner()}
        tags |= {"dagster_job_name": context.run.job_name, "mlflow.runName": f"{model}-{context.run.run_id[:8]}"}
        run_id = self.client.create_run(self._experiment(model), tags=tags).info.run_id
        if self.lake.store.create(claim, run_id.encode()):
            return run_id
        self.client.delete_run(run_id)  # another step was faster; its run is the one
        winner = self.lake.store.read(claim)
        assert winner is not None
        return winner.decode()

    def _experiment(self, model: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(model)
        if found:
            return found.experiment_id
        try:
            return self.client.create_experiment(model, tags={"mlflow.experimentKind": "custom_model_development"})
        except MlflowException:  # another process has just created it
            found = self.client.get_experiment_by_name(model)
            assert found is not None
            return found.experiment_id

    def _end_abandoned(self, model: str) -> None:
        """Mark runs as KILLED whose process on this machine is gone."""
        experiment = self.client.get_experiment_by_name(model)
        if not experiment:
            return
        for run in self.client.search_runs(
            [experiment.experiment_id], "attributes.status = 'RUNNING'", max_results=100
        ):
            host, _, process = run.data.tags.get(OWNER_TAG, "").partition("/")
            pid, _, started = process.partition("@")
            if host == socket.gethostname() and pid.isdigit() and started_at(int(pid)) != started:
                self.client.set_terminated(run.info.run_id, "KILLED")

    # ---- registry ----
    def version_of(self, model: str, sha256: str) -> RegisteredVersion | None:
        """The version that holds the artifact with this digest, or None."""
        found = self.client.search_model_versions(f"name = '{model}' and tags.sha256 = '{sha256}'")
        return _registered(max(found, key=lambda version: int(version.version))) if found else None

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """The version an alias points to, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return _registered(self.client.get_model_version_by_alias(model, alias))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            raise

    def tags_of(self, version: RegisteredVersion) -> dict[str, str]:
        """The tags of a version, which say what it was made from."""
        return dict(self.client.get_model_version(version.model, str(version.version)).tags)

    def register(
        self, model: str, run: TrackedRun, artifact: str, tags: Mapping[str, str], description: str
    ) -> RegisteredVersion:
        """Register an artifact folder of the run as the next version of the model."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self.client.get_run(run.run_id).info.artifact_uri}/{artifact}"
        return _registered(
            self.client.create_model_version(model, source, run.run_id, dict(tags), description=description)
        )

    def move_alias(
        self, version: RegisteredVersion, alias: str, reason: str, actor: str, evidence: dict[str, Any]
    ) -> None:
        """Point an alias at a version and write that to the append-only ledger, unless it points there already."""
        entries = self.lake.entries(f"{version.model}/ledger")
        written = next((entry["version"] for entry in reversed(entries) if entry["alias"] == alias), None)
        before = self.by_alias(version.model, alias)
        if before is None or before.version != version.version:
            self.client.set_registered_model_alias(version.model, alias, str(version.version))
            written = before.version if before else None
        elif written == version.version:
            return
        # An alias that was moved by a run that died before it wrote so is written down by the next one
        entry = {"alias": alias, "version": version.version, "sha256": version.sha256, "reason": reason, "actor": actor}
        self.lake.append(f"{version.model}/ledger", entry | {"previous_version": written, "evidence": evidence})

    def download(self, version: RegisteredVersion, folder: Path) -> Path:
        """A folder with exactly the two files of a version that a predictor reads: model.onnx and model.json."""
        target = folder / "artifact"
        target.mkdir()
        for name in MAX_BYTES:
            path = self.client.download_artifacts(version.run_id, f"model/{name}", str(folder))
            Path(path).rename(target / name)
        return target

    def version_url(self, version: RegisteredVersion) -> str:
        """The version's page in MLflow."""
        return f"{self.address}/#/models/{version.model}/versions/{version.version}"


def _registered(version: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion(
        model=version.name,
        version=int(version.version),
        sha256=version.tags.get("sha256", ""),
        run_id=version.run_id or "",
    )


def actor(run: dg.DagsterRun) -> str:
    """Who moves an alias: the user of the run, or the automation that started it."""
    for tag in ("user", "dagster/schedule_name", "dagster/sensor_name"):
        if tag in run.tags:
            return f"{tag.removeprefix('dagster/')} {run.tags[tag]}"
    return f"run {run.run_id}"


def _owner() -> str:
    return f"{socket.gethostname()}/{os.getpid()}@{started_at(os.getpid())}"
