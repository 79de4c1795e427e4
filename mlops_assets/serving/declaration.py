"""What a server is to serve of a model: `serving.json` in its folder, written by who deploys and read by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from mlops_assets.ml.errors import ArtifactError, DataError
from mlops_assets.ml.values import Document, Value
from mlops_assets.serving.log_policy import InferenceLogPolicy

if TYPE_CHECKING:
    from pathlib import Path

CANDIDATE = "-candidate"  # follows the model's name in the name under which its candidate is served
EXIT_REFUSED = 65  # of a server whose one model can never be served; EX_DATAERR of sysexits.h


class ServedVersion(Value):
    """A version that is served or is to be: the folder it is stored in, the digest of its graph, what is kept of its
    requests, and whether its answers are explained.
    """

    folder: str
    sha256: str
    version: str
    log: InferenceLogPolicy | None = None
    explain: bool = False

    @classmethod
    def of(
        cls, version: int | str, sha256: str, log: InferenceLogPolicy | None = None, *, explain: bool = False
    ) -> ServedVersion:
        """A version, in the folder that is its own."""
        folder = f"{version}-{sha256[:12]}"
        return cls(folder=folder, sha256=sha256, version=str(version), log=log, explain=explain)


class Declaration(Document):
    """What is to be served under a model's name, and beside it as its candidate."""

    FILE = "serving.json"

    champion: ServedVersion | None = None
    candidate: ServedVersion | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The declaration in a model's folder.

        Raises:
            ArtifactError: it is damaged.
            FileNotFoundError: there is none.
        """
        try:
            return super().read(folder)
        except DataError as error:
            remedy = "delete it and deploy the model again"
            raise ArtifactError(error.what, where=error.where, remedy=remedy) from error
