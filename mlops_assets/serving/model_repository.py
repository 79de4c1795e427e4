"""The models of a server: those that the folders below its own declare."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import ArtifactError, MlopsError
from mlops_assets.ml.values import SERVED_NAME
from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.limits import Limits
from mlops_assets.serving.predictor import Predictor, nothing_recorded

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.serving.inference_log import InferenceLog

log = logging.getLogger("mlops_assets.serving")


class Repository:
    """Loads the champions that the files declare, or their candidates, which have a process of their own.

    A version that is refused leaves the one that answers in its place.
    """

    def __init__(
        self,
        folder: Path,
        max_rows: int = Limits().rows,
        inference_log: InferenceLog | None = None,
        *,
        of_candidates: bool = False,
        gpu: bool = False,
    ) -> None:
        self.folder, self.max_rows, self.inference_log = folder.resolve(), max_rows, inference_log
        self.of_candidates, self._gpu = of_candidates, gpu
        self.models: dict[str, Predictor] = {}
        """What answers, by the name under which it does."""
        self.refused: dict[str, str] = {}
        """Why what is declared under a name is not served; an earlier version may answer in its place."""

    def load_all(self) -> None:
        """Load everything that is declared; what is refused is logged, and the others are served."""
        for path in sorted(self.folder.glob(f"*/{Declaration.FILE}")):
            try:
                self.load(path.parent.name)
            except MlopsError as error:
                log.error("%s is not served: %s", path.parent.name, error)

    def load(self, name: str) -> None:
        """Bring a model to its declared state.

        Raises:
            ArtifactError: a version is refused; the versions that were served still are.
        """
        folder = self.folder / name
        if not re.fullmatch(SERVED_NAME, name) or not (folder / Declaration.FILE).is_file():
            raise ArtifactError(f"there is no model {name[:63]!r} in this server")
        try:
            declared = Declaration.read(folder)
        except ArtifactError as error:
            self.refused[name] = str(error)
            raise
        self._serve(name, folder, declared.candidate if self.of_candidates else declared.champion)

    def index(self) -> list[dict[str, str]]:
        """Each model by the name under which it is served or should be, in the words of Triton's repository index.

        `state` is READY where a version answers, and UNAVAILABLE where none does; `reason` says why the version that is
        declared is refused, and is empty where none is.
        """
        return [
            {
                "name": name,
                "version": running.served.version if running else "",
                "state": "READY" if running else "UNAVAILABLE",
                "reason": self.refused.get(name, ""),
            }
            for name in sorted({*self.models, *self.refused})
            for running in [self.models.get(name)]
        ]

    def _serve(self, name: str, folder: Path, wanted: ServedVersion | None) -> None:
        """Serve a version as `name`, or nothing, and keep the reason where it is refused."""
        try:
            self._bring(name, folder, wanted)
        except ArtifactError as error:
            self.refused[name] = str(error)
            raise
        self.refused.pop(name, None)

    def _bring(self, name: str, folder: Path, wanted: ServedVersion | None) -> None:
        """As `_serve`; what is served already is not loaded again."""
        if wanted is None:
            self.models.pop(name, None)
            return
        running = self.models.get(name)
        if running and running.served == wanted:
            return
        artifact = (folder / wanted.folder).resolve()
        if not artifact.is_relative_to(folder):
            raise ArtifactError(f"{wanted.folder!r} lies outside the model's own folder; refused")
        record = nothing_recorded
        if self.inference_log and wanted.log:
            self.inference_log.check(wanted.log)
            record = self.inference_log.record
        self.models[name] = Predictor(
            name, wanted, artifact, self.max_rows, record, is_candidate=self.of_candidates, gpu=self._gpu
        )
