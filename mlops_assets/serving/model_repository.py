"""The models of a server, as files declare them: DIR/<model>/serving.json names champion and candidate."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from kserve import ModelRepository
from pydantic import ValidationError

from mlops_assets.ml.errors import ArtifactError, MlopsError
from mlops_assets.ml.values import Value
from mlops_assets.serving.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

CANDIDATE = "-candidate"
DECLARATION = "serving.json"
MODEL_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
log = logging.getLogger("mlops_assets.serving")


class Served(Value):
    """A version that is to be served: its folder below the model's own, and the digest of its graph."""

    folder: str
    sha256: str
    version: str


class Declaration(Value):
    """What is to be served under a model's name, and beside it as its candidate."""

    champion: Served | None = None
    candidate: Served | None = None


class Repository(ModelRepository):
    """Loads what the files declare. A version that is refused leaves the one that answers in its place."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder.resolve()

    def load_all(self) -> None:
        """Load everything that is declared; what is refused is logged, and the others are served."""
        for path in sorted(self.folder.glob(f"*/{DECLARATION}")):
            try:
                self.load(path.parent.name)
            except MlopsError as error:
                log.error("%s is not served: %s", path.parent.name, error)

    def load(self, name: str) -> bool:
        """Bring a model to its declared state.

        Raises:
            ArtifactError: a version is refused; the versions that were served still are.
        """
        declared = self._declaration(name)
        try:
            self._serve(name, name, declared.champion)
        except ArtifactError as error:
            if declared.candidate is None:
                raise
            log.error("%s: %s", name, error)  # a champion that is damaged must not keep its successor out
        self._serve(name + CANDIDATE, name, declared.candidate)
        return True

    def _serve(self, key: str, name: str, served: Served | None) -> None:
        """Serve a version under `key`, or nothing."""
        if served is None:
            self.models.pop(key, None)
        else:
            self.update(self._loaded(key, name, served))

    def _declaration(self, name: str) -> Declaration:
        path = self.folder / name / DECLARATION
        if not MODEL_NAME.match(name) or not path.is_file():
            raise ArtifactError(f"There is no model {name[:63]!r} in this server.")
        try:
            return Declaration.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ArtifactError(f"{path} is damaged ({error.errors()[0]['msg']}); deploy the model again.") from error

    def _loaded(self, key: str, name: str, served: Served) -> Predictor:
        running = self.models.get(key)
        if isinstance(running, Predictor) and (running.version, running.signature.sha256) == (
            served.version,
            served.sha256,
        ):
            return running
        folder = (self.folder / name / served.folder).resolve()
        if not folder.is_relative_to(self.folder / name):
            raise ArtifactError(f"{served.folder!r} lies outside the model's own folder; refused.")
        return Predictor(key, served.version, folder, served.sha256)
