"""Serving targets: how a version is deployed, and how a model is retired, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.serving.declaration import ServedVersion
from resources.serving.rollout import Rollout, nothing_recorded
from resources.serving.serving_steps import ServingSteps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlops_assets.serving.log_policy import InferenceLogPolicy
    from resources.serving.golden_rows import Proof, RolloutStep
    from resources.serving.live_traffic import LiveTraffic
    from resources.serving.service_settings import ServiceSettings


class ServingTarget(dg.ConfigurableResource[Any], ServingSteps):
    """A place where versions of models are served.

    `deploy` is the whole way of a version; a target implements its steps, those of `ServingSteps`.
    `mlops_assets.testing.check_serving_target` tells whether a target keeps what they promise. The smallest one, around
    a server that serves what `served` maps names to:

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
        self,
        model: str,
        artifact: Path,
        sha256: str,
        version: int,
        log: InferenceLogPolicy | None = None,
        live: LiveTraffic | None = None,
        record: Callable[[RolloutStep], object] = nothing_recorded,
        *,
        explain: bool = False,
        service: ServiceSettings | None = None,
    ) -> Proof:
        """Serve a version, by the way that `Rollout` describes.

        `log` is what is kept of its requests, `live` are those of the model, if it is proved on them too, `explain`
        says whether its answers are explained, and `service` how pods serve it, where there are any; they go on as
        they are where it is not given.

        Raises:
            DeploymentError: it was refused or answered wrongly; the version that answered before goes on.
        """
        with self.exclusive(model):
            new = ServedVersion.of(version, sha256, log, explain=explain)
            return Rollout(self.with_service(service), model, artifact, new, live, record).run()

    def with_service(self, service: ServiceSettings | None) -> ServingSteps:
        """The target for versions whose service is laid out so; the same one where it has but one way to serve."""
        return self

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
