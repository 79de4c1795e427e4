"""The models of a server: those that the folders below its own declare."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import ArtifactError, MlopsError
from mlops_assets.ml.values import MODEL_NAME
from mlops_assets.serving.declaration import CANDIDATE, Declaration, ServedVersion
from mlops_assets.serving.kserve_patch import ModelRepository
from mlops_assets.serving.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("mlops_assets.serving")


class Repository(ModelRepository):
    """Loads what the files declare. A version that is refused leaves the one that answers in its place."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder.resolve()

    def load_all(self) -> None:
        """Load everything that is declared; what is refused is logged, and the others are served."""
        for path in sorted(self.folder.glob(f"*/{Declaration.FILE}")):
            try:
                self.load(path.parent.name)
            except MlopsError as error:
                log.error("%s is not served: %s", path.parent.name, error)

    def load(self, name: str) -> bool:
        """Bring a model to its declared state.

        Raises:
            ArtifactError: a version is refused; the versions that were served still are.
        """
        folder = self.folder / name
        if not re.fullmatch(MODEL_NAME, name) or not (folder / Declaration.FILE).is_file():
            raise ArtifactError(f"there is no model {name[:63]!r} in this server")
        declared = Declaration.read(folder)
        try:
            self._serve(name, folder, declared.champion)
        except ArtifactError as error:
            if declared.candidate is None:
                raise
            log.error("%s: %s", name, error)  # a champion that is damaged must not keep its successor out
        self._serve(name + CANDIDATE, folder, declared.candidate)
        return True

    def _serve(self, name: str, folder: Path, wanted: ServedVersion | None) -> None:
        """Serve a version as `name`, or nothing; one that is served already is not loaded again."""
        if wanted is None:
            self.models.pop(name, None)
            return
        running = self.models.get(name)
        if isinstance(running, Predictor) and running.served == wanted:
            return
        artifact = (folder / wanted.folder).resolve()
        if not artifact.is_relative_to(folder):
            raise ArtifactError(f"{wanted.folder!r} lies outside the model's own folder; refused")
        self.update(Predictor(name, wanted, artifact))
