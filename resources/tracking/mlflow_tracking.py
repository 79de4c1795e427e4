"""MLflow: one run per model and Dagster run, finished whatever happens, beside the model registry."""

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress

import dagster as dg

from mlops_assets.ml.errors import LakeError, TrackingError, TrackingRefused
from resources.environment import Environment
from resources.local.background_server import started_at
from resources.tracking.mlflow_errors import translate_errors, translated_errors
from resources.tracking.model_registry import NO_SUCH_THING, ModelRegistry, RegisteredVersion
from resources.tracking.tracked_run import TrackedRun

RUN_TAG = "dagster_run_id"  # dagster-mlflow's resource finds the same run by this tag
OWNER_TAG = "mlops.owner"


class Tracking(ModelRegistry):
    """MLflow runs and model versions. Without `uri` the embedded server is used, and started when it does not run."""

    def warm_up(self, model: str) -> None:
        """Look that the shared server can be used, or start the embedded one, so that it answers when it is needed.

        Raises:
            SpecError: this environment may not change the space of the lake.
        """
        self.lake.check_space()
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
            SpecError: this environment may not change the space of the lake.
        """
        self.lake.check_space()
        self._experiment(model)
        self.by_alias(model, "champion")

    @contextmanager
    def run(self, model: str, context: dg.AssetExecutionContext) -> Generator[TrackedRun]:
        """The MLflow run of `model` in this Dagster run: RUNNING inside the block, FINISHED or FAILED after it.

        Steps may call it in parallel, from several processes, or again in a retry: it is the same run.
        """
        self.lake.check_space()
        with translated_errors(self.address):
            run_id = self._run_id(model, context)
            self.client.update_run(run_id, status="RUNNING")
            experiment = self.client.get_run(run_id).info.experiment_id
        try:
            yield self._tracked(run_id, experiment)
        except BaseException:
            with suppress(TrackingError), translated_errors(self.address):  # the block's own error is the one to tell
                self.client.set_terminated(run_id, "FAILED")
            raise
        with translated_errors(self.address):
            self.client.set_terminated(run_id, "FINISHED")

    @translate_errors
    def run_of(self, version: RegisteredVersion) -> TrackedRun:
        """The run that a version was registered from, as it ended; what is written into it changes that no more."""
        return self._tracked(version.run_id, self.client.get_run(version.run_id).info.experiment_id)

    def _tracked(self, run_id: str, experiment: str) -> TrackedRun:
        # Pictures of the embedded server are those of this machine; a shared one may ask who is there
        embedded = self.uri is None
        return TrackedRun(self.client, run_id, self.address, experiment, page=self.page, shows_pictures=embedded)

    def _run_id(self, model: str, context: dg.AssetExecutionContext) -> str:
        claim = self.lake.own(f"{model}/mlflow_runs/{context.run.run_id}")
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

        name = self.lake.name_of(model)
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, tags={"mlflow.experimentKind": "custom_model_development"})
            except MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
                # another process has just created it
        if found.lifecycle_stage != "active":
            what = f"The experiment {name} (id {found.experiment_id}) was deleted in MLflow at {self.address}"
            remedy = (
                f"restore it (mlflow experiments restore -x {found.experiment_id}), or remove it for good (mlflow gc)"
            )
            raise TrackingRefused(what, remedy=remedy)
        return found.experiment_id

    def _end_abandoned(self, model: str) -> None:
        """Mark runs as KILLED whose process on this machine is gone."""
        experiment = self.client.get_experiment_by_name(self.lake.name_of(model))
        if not experiment:
            return
        for run in self.client.search_runs(
            [experiment.experiment_id], "attributes.status = 'RUNNING'", max_results=100
        ):
            host, _, process = run.data.tags.get(OWNER_TAG, "").partition("/")
            pid, _, started = process.partition("@")
            if host == socket.gethostname() and pid.isdigit() and started_at(int(pid)) != started:
                self.client.set_terminated(run.info.run_id, "KILLED")


def _owner() -> str:
    return f"{socket.gethostname()}/{os.getpid()}@{started_at(os.getpid())}"
