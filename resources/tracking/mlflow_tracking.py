"""MLflow: one run per model and Dagster run, finished whatever happens, and the model registry."""

import os
import re
import socket
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.ml.errors import LakeError, TrackingError, TrackingRefused
from mlops_assets.ml.inference.artifact import GRAPH, MAX_BYTES
from mlops_assets.ml.values import Value
from resources.environment import Environment
from resources.lake.digests import sha256
from resources.lake.lake import Lake
from resources.local.background_server import started_at
from resources.tracking.mlflow_errors import translate_errors, translated_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

RUN_TAG = "dagster_run_id"  # dagster-mlflow's resource finds the same run by this tag
OWNER_TAG = "mlops.owner"
NO_SUCH_THING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}
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


class VersionTags(Value):
    """A version in the model registry as it was found there."""

    version: int
    tags: dict[str, str]
    aliases: tuple[str, ...]


class TrackedRun:
    """The MLflow run of a model in one Dagster run. All calls name the run; there is no global active run."""

    def __init__(self, client: "MlflowClient", run_id: str, address: str, experiment: str) -> None:
        self.client, self.run_id, self.address = client, run_id, address
        self.url = f"{address}/#/experiments/{experiment}/runs/{run_id}"

    def artifact_url(self, name: str) -> str:
        """Where a browser finds an artifact of the run."""
        return f"{self.address}/get-artifact?path={name}&run_uuid={self.run_id}"

    @translate_errors
    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; those that are there already stay."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        fresh = [Param(key, str(value)[:6000]) for key, value in values.items() if key not in known]
        self.client.log_batch(self.run_id, params=fresh)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log one value for each metric."""
        self.series([values], first_step=step)

    @translate_errors
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

    @translate_errors
    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in values.items()])

    @translate_errors
    def text(self, content: str, name: str) -> None:
        """Log a text file."""
        self.client.log_text(self.run_id, content, name)

    @translate_errors
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
        return self.uri.rstrip("/") if self.uri else Environment.read().mlflow_server().ensure_running()

    def warm_up(self, model: str) -> None:
        """Look that the shared server can be used, or start the embedded one, so that it answers when it is needed."""
        if self.uri:
            self.check(model)
        else:
            Environment.read().mlflow_server().launch()

    @translate_errors
    def check(self, model: str) -> None:
        """Look that the server answers, takes the login, and can hold runs of the model; call it before long work.

        Raises:
            TrackingError: it cannot be reached.
            TrackingRefused: it refuses the login, the model's experiment was deleted, or its champion is not ours.
        """
        self._experiment(model)
        self.by_alias(model, "champion")

    @cached_property
    def client(self) -> "MlflowClient":
        """A client that soon gives up when the server cannot be reached."""
        for name, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        return MlflowClient(self.address, self.address)

    # ---- runs ----
    @contextmanager
    def run(self, model: str, context: dg.AssetExecutionContext) -> Generator[TrackedRun]:
        """The MLflow run of `model` in this Dagster run: RUNNING inside the block, FINISHED or FAILED after it.

        Steps may call it in parallel, from several processes, or again in a retry: it is the same run.
        """
        with translated_errors(self.address):
            run_id = self._run_id(model, context)
            self.client.update_run(run_id, status="RUNNING")
            experiment = self.client.get_run(run_id).info.experiment_id
        try:
            yield TrackedRun(self.client, run_id, self.address, experiment)
        except BaseException:
            with suppress(TrackingError), translated_errors(self.address):  # the block's own error is the one to tell
                self.client.set_terminated(run_id, "FAILED")
            raise
        with translated_errors(self.address):
            self.client.set_terminated(run_id, "FINISHED")

    def _run_id(self, model: str, context: dg.AssetExecutionContext) -> str:
        claim = f"{model}/mlflow_runs/{context.run.run_id}"
        if known := self._claimed(claim):
            return known
        self._end_abandoned(model)
        tags = {RUN_TAG: context.run.run_id, "mlops.model": model, OWNER_TAG: _owner()}
        tags |= {"dagster_job_name": context.run.job_name, "mlflow.runName": f"{model}-{context.run.run_id[:8]}"}
        run_id = self.client.create_run(self._experiment(model), tags=tags).info.run_id
        if self.lake.store.create(claim, run_id.encode()):
            return run_id
        winner = self._claimed(claim)
        if winner != run_id:
            self.client.delete_run(run_id)  # another step was faster; its run is the one
        if winner is None:
            raise LakeError(f"The claim {claim} of an MLflow run was removed", remedy="materialize again")
        return winner

    def _claimed(self, claim: str) -> str | None:
        """The run that a step of this Dagster run has claimed, brought back where it was deleted in MLflow."""
        from mlflow.exceptions import MlflowException

        content = self.lake.store.read(claim)
        if content is None:
            return None
        try:
            run = self.client.get_run(content.decode())
        except (MlflowException, ValueError) as error:
            if isinstance(error, MlflowException) and error.error_code not in NO_SUCH_THING:
                raise
            what = f"The claim {claim} in {self.lake.uri} names an MLflow run that does not exist"
            raise TrackingRefused(what, remedy="delete that object, and materialize again") from error
        if run.info.lifecycle_stage != "active":
            self.client.restore_run(run.info.run_id)
        return run.info.run_id

    def _experiment(self, model: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(model)
        if found is None:
            try:
                return self.client.create_experiment(model, tags={"mlflow.experimentKind": "custom_model_development"})
            except MlflowException:
                found = self.client.get_experiment_by_name(model)
                if found is None:
                    raise
                # another process has just created it
        if found.lifecycle_stage != "active":
            what = f"The experiment {model} (id {found.experiment_id}) was deleted in MLflow at {self.address}"
            remedy = (
                f"restore it (mlflow experiments restore -x {found.experiment_id}), or remove it for good (mlflow gc)"
            )
            raise TrackingRefused(what, remedy=remedy)
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
    @translate_errors
    def version_of(self, model: str, sha256: str) -> RegisteredVersion | None:
        """The newest version that holds the artifact with this digest, or None; a tag that says so is not believed."""
        found = self.client.search_model_versions(f"name = '{model}' and tags.sha256 = '{sha256}'")
        candidates = filter(None, map(_registered, sorted(found, key=lambda version: -int(version.version))))
        return next((version for version in candidates if self._holds_its_artifact(version)), None)

    def _holds_its_artifact(self, version: RegisteredVersion) -> bool:
        with tempfile.TemporaryDirectory() as draft:
            try:
                return sha256(self.download(version, Path(draft)) / GRAPH) == version.sha256
            except TrackingRefused:
                return False

    @translate_errors
    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """The version an alias points to, or None.

        Raises:
            TrackingRefused: the version was not registered by this platform, so that nothing is known of it.
        """
        found = self._aliased(model, alias)
        version = _registered(found) if found else None
        if found and version is None:
            what = f"Version {found.version} of {model}, which has the alias {alias} in MLflow, was not registered here"
            detail = "it has no run, or no tag sha256 with the digest of an artifact"
            remedy = f"take the alias {alias} off in MLflow, or point it at a version of this platform"
            raise TrackingRefused(f"{what}: {detail}", remedy=remedy)
        return version

    def _aliased(self, model: str, alias: str) -> "ModelVersion | None":
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(model, alias)
        except MlflowException as error:
            if error.error_code in NO_SUCH_THING:
                return None
            raise

    @translate_errors
    def tags_of(self, version: RegisteredVersion) -> dict[str, str]:
        """The tags of a version, which say what it was made from."""
        return dict(self.client.get_model_version(version.model, str(version.version)).tags)

    @translate_errors
    def versions(self, model: str) -> "list[VersionTags]":
        """All versions that MLflow has under a model's name, ours or not, the newest first; none where it has no such
        model."""
        from mlflow.exceptions import MlflowException

        try:
            aliases = self.client.get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code in NO_SUCH_THING:
                return []
            raise
        found, token = list[VersionTags](), None
        while token != "":
            page = self.client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
            for version in page:
                number = int(version.version)
                named = tuple(alias for alias, of in aliases.items() if int(of) == number)
                found.append(VersionTags(version=number, tags=dict(version.tags), aliases=named))
            token = page.token or ""
        return sorted(found, key=lambda version: -version.version)

    @translate_errors
    def models(self) -> "dict[str, list[VersionTags]]":
        """The models that have a version of this platform, each with all its versions, the newest first."""
        names, token = list[str](), None
        while token != "":
            page = self.client.search_registered_models(max_results=1000, page_token=token)
            names += [model.name for model in page]
            token = page.token or ""
        found = {name: self.versions(name) for name in names}
        return {name: versions for name, versions in found.items() if any("snapshot" in one.tags for one in versions)}

    @translate_errors
    def register(
        self, model: str, run: TrackedRun, artifact: str, tags: Mapping[str, str], description: str
    ) -> RegisteredVersion:
        """Register an artifact folder of the run as the next version of the model.

        The version that holds the artifact already is taken where there is one: of several runs that register the same
        digest one does. `tags` has that digest as `sha256`.
        """
        from mlflow.exceptions import MlflowException

        with self.lake.lock(model) as held:
            known = self.version_of(model, tags["sha256"])
            if known:
                return known
            try:
                self.client.create_registered_model(model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"{self.client.get_run(run.run_id).info.artifact_uri}/{artifact}"
            held.check()
            self.client.create_model_version(model, source, run.run_id, dict(tags), description=description)
            return self._only_version(model, tags["sha256"], run.run_id)

    def _only_version(self, model: str, sha256: str, run_id: str) -> RegisteredVersion:
        """The version that was just made; MLflow's client makes it again when the answer was lost."""
        found = self.client.search_model_versions(f"name = '{model}' and tags.sha256 = '{sha256}'")
        made = sorted(int(version.version) for version in found if version.run_id == run_id)
        for repeated in made[1:]:
            self.client.delete_model_version(model, str(repeated))
        return RegisteredVersion(model=model, version=made[0], sha256=sha256, run_id=run_id)

    @translate_errors
    def move_alias(
        self, version: RegisteredVersion, alias: str, reason: str, actor: str, evidence: dict[str, Any]
    ) -> None:
        """Point an alias at a version and write that to the append-only ledger, unless it points there already.

        Both happen under the model's lock, so that the ledger has the moves in the order in which they were made.
        """
        with self.lake.lock(version.model) as held:
            written = self._last_written(version.model, alias)
            before = self._aliased(version.model, alias)
            if before is None or int(before.version) != version.version:
                held.check()
                self.client.set_registered_model_alias(version.model, alias, str(version.version))
                written = int(before.version) if before else None
            elif written == version.version:
                return
            # An alias that was moved by a run that died before it wrote so is written down by the next one
            entry = {"alias": alias, "version": version.version, "sha256": version.sha256, "reason": reason}
            entry |= {"actor": actor, "previous_version": written, "evidence": evidence}
            self.lake.append(f"{version.model}/ledger", entry)

    @translate_errors
    def remove_alias(self, model: str, alias: str, reason: str, actor: str) -> int | None:
        """Take an alias off and write that to the ledger; the version that had it, None where it was off already."""
        with self.lake.lock(model) as held:
            before = self._aliased(model, alias)
            written = self._last_written(model, alias)
            if before is not None:
                held.check()
                self.client.delete_registered_model_alias(model, alias)
                written = int(before.version)
            # One that was taken off by a process that died before it wrote so is written down by the next one
            if written is not None:
                self.write_removal(model, alias, reason, actor, written)
            return written

    def write_removal(self, model: str, alias: str, reason: str, actor: str, previous: int | None) -> None:
        """Write to the ledger that no version has an alias any more."""
        entry = {"alias": alias, "version": None, "sha256": None, "reason": reason}
        self.lake.append(f"{model}/ledger", entry | {"actor": actor, "previous_version": previous, "evidence": {}})

    def _last_written(self, model: str, alias: str) -> int | None:
        """The version that has an alias as the ledger says."""
        entries = self.lake.entries(f"{model}/ledger")
        return next((entry["version"] for entry in reversed(entries) if entry["alias"] == alias), None)

    @translate_errors
    def download(self, version: RegisteredVersion, folder: Path) -> Path:
        """A folder with exactly the two files of a version that a predictor reads: model.onnx and model.json.

        Raises:
            TrackingRefused: the version does not have them.
        """
        target = folder / "artifact"
        target.mkdir()
        for name in MAX_BYTES:
            path = self._download_file(version, f"model/{name}", folder)
            path.rename(target / name)
        return target

    def _download_file(self, version: RegisteredVersion, path: str, folder: Path) -> Path:
        names = {item.path for item in self.client.list_artifacts(version.run_id, path.rpartition("/")[0])}
        if path not in names:
            what = f"Version {version.version} of {version.model} in MLflow has no file {path} in its run"
            remedy = "take its aliases off, or restore the artifacts of the run"
            raise TrackingRefused(what, remedy=remedy)
        return Path(self.client.download_artifacts(version.run_id, path, str(folder)))

    def version_url(self, version: RegisteredVersion) -> str:
        """The version's page in MLflow."""
        return f"{self.address}/#/models/{version.model}/versions/{version.version}"


def _registered(version: "ModelVersion") -> RegisteredVersion | None:
    """A version that this platform has registered, None for any other."""
    digest = version.tags.get("sha256", "")
    if not version.run_id or not re.fullmatch("[0-9a-f]{64}", digest):
        return None
    return RegisteredVersion(model=version.name, version=int(version.version), sha256=digest, run_id=version.run_id)


def actor(run: dg.DagsterRun) -> str:
    """Who moves an alias: the user of the run, or the automation that started it."""
    for tag in ("user", "dagster/schedule_name", "dagster/sensor_name"):
        if tag in run.tags:
            return f"{tag.removeprefix('dagster/')} {run.tags[tag]}"
    return f"run {run.run_id}"


def _owner() -> str:
    return f"{socket.gethostname()}/{os.getpid()}@{started_at(os.getpid())}"
