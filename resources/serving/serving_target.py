"""Serving targets: how a version is deployed, the same everywhere, and the steps in which targets differ."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.ml.errors import DeploymentError, MlopsError
from mlops_assets.ml.inference.artifact import ModelSignature
from mlops_assets.serving.declaration import ServedVersion
from resources.serving.golden_rows import Endpoint, Proof, post_json, verify_golden_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlops_assets.serving.log_policy import InferenceLogPolicy


class ServingTarget(dg.ConfigurableResource[Any], ABC):
    """A place where versions of models are served.

    `deploy` is the whole way of a version; a target implements its steps. Each step leaves what is not its own as it
    is, and may come twice: a deployment that was killed is repeated. `mlops_assets.testing.check_serving_target` tells
    whether a target keeps this. The smallest one, around a server that serves what `served` maps names to:

        class OneServer(ServingTarget):
            url: str

            def exclusive(self, model):
                return lock

            def store(self, model, version, artifact):
                files[version.folder] = artifact

            def current(self, model):
                return served.get(model)

            def start_candidate(self, model, version):
                served[model + CANDIDATE] = version
                return Endpoint(url=self.url, model=model + CANDIDATE)

            def retire_candidate(self, model):
                served.pop(model + CANDIDATE, None)

            def make_champion(self, model, version):
                served[model] = version
                self.retire_candidate(model)
                return Endpoint(url=self.url, model=model)

            def rollback(self, model, before):
                served[model] = before

            def served(self):
                return [name for name, version in served.items() if version]
    """

    def deploy(
        self, model: str, artifact: Path, sha256: str, version: int, log: InferenceLogPolicy | None = None
    ) -> Proof:
        """Serve a version: up as candidate, its golden rows verified over HTTP, made champion, verified again.

        `log` is what is kept of its requests.

        Whatever goes wrong, the version that answered before goes on, or answers again.

        Raises:
            DeploymentError: it was refused or answered wrongly.
        """
        signature = ModelSignature.read(artifact)
        new, name = ServedVersion.of(version, sha256, log), f"Version {version} of {model}"
        with self.exclusive(model):
            before = self.current(model)
            stays = f"version {before.version} keeps answering" if before else "nothing is served"
            self.store(model, new, artifact)
            if self.serves(model, new):  # completes what a killed deployment has left
                proof = verify_golden_rows(self.make_champion(model, new), signature, self.post)
            else:
                with _undone_by(lambda: self.retire_candidate(model), f"{name} was not rolled out, {stays}"):
                    verify_golden_rows(self.start_candidate(model, new), signature, self.post)
                with _undone_by(lambda: self.rollback(model, before), f"{name} was rolled back"):
                    proof = verify_golden_rows(self.make_champion(model, new), signature, self.post)
            self.delete_all_but(model, [new, before or new])
            return proof

    def retire(self, model: str) -> ServedVersion | None:
        """Serve nothing under a model's name any more, and delete its stored files; what was served."""
        with self.exclusive(model):
            before = self.current(model)
            self.rollback(model, None)
            self.retire_candidate(model)
            self.delete_all_but(model, [])
            return before

    def warm_up(self) -> None:
        """Begin in the background what takes long, so that the target answers in time; may be nothing."""

    @abstractmethod
    def exclusive(self, model: str) -> AbstractContextManager[object]:
        """Keep other deployments of the model out while the block runs."""

    @abstractmethod
    def current(self, model: str) -> ServedVersion | None:
        """What is served under the model's name."""

    @abstractmethod
    def store(self, model: str, version: ServedVersion, artifact: Path) -> None:
        """Copy the artifact's files to where the target's servers read them."""

    def serves(self, model: str, version: ServedVersion) -> bool:
        """Whether this is served under the model's name already, so that no candidate is needed."""
        return self.current(model) == version

    @abstractmethod
    def start_candidate(self, model: str, version: ServedVersion) -> Endpoint:
        """Serve a version beside the champion; where it answers, once it does."""

    @abstractmethod
    def retire_candidate(self, model: str) -> None:
        """Serve the champion alone."""

    @abstractmethod
    def make_champion(self, model: str, version: ServedVersion) -> Endpoint:
        """Serve a version under the model's name, without a failed request, and no candidate; where it answers now."""

    @abstractmethod
    def rollback(self, model: str, before: ServedVersion | None) -> None:
        """Serve again what `current` was before a version was made champion, or nothing."""

    @abstractmethod
    def served(self) -> list[str]:
        """The models of which something is served, a candidate at least; nothing is started for that."""

    def delete_all_but(self, model: str, versions: list[ServedVersion]) -> None:
        """Delete stored files of versions other than these; may be nothing."""

    def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The response of a server of this target to a JSON request; for a minute it may not be there yet.

        Raises:
            DeploymentError: it refuses the request, or does not answer.
        """
        try:
            return post_json(url, body, before_retry=lambda: time.sleep(1))
        except OSError as error:
            raise DeploymentError(f"{url} does not answer: {error}") from error


@contextmanager
def _undone_by(undo: Callable[[], None], outcome: str) -> Generator[None]:
    """Undo what the block did when anything is raised in it, a signal's exception too."""
    try:
        yield
    except BaseException as error:
        undo()
        if isinstance(error, MlopsError):
            raise DeploymentError(f"{outcome}: {error}") from error
        raise
