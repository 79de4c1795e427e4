"""The steps of a roll-out in which serving targets differ."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DeploymentError
from resources.serving.golden_rows import post_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlops_assets.serving.declaration import ServedVersion
    from resources.serving.golden_rows import Endpoint


class ServingSteps(ABC):
    """Each step leaves what is not its own as it is, and may come twice: a deployment that was killed is repeated."""

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

    def candidate_has_moved(self, model: str) -> bool:
        """Whether a candidate's server was taken away, by no fault of its own, since it was started or this was asked;
        then it is ready again elsewhere. Never where servers have but one place.

        Raises:
            DeploymentError: it was taken away, and is not ready elsewhere.
        """
        return False

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

    def delete_all_but(self, model: str, versions: list[ServedVersion]) -> None:  # noqa: B027 - nothing is right, too
        """Delete stored files of versions other than these; may be nothing."""

    def post(self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The response of a server of this target to a JSON request; for a minute it may not be there yet.

        Raises:
            DeploymentError: it refuses the request, or does not answer.
        """
        try:
            return post_json(url, body, before_retry=lambda: time.sleep(1), headers=headers)
        except OSError as error:
            raise DeploymentError(f"{url} does not answer: {error}") from error
