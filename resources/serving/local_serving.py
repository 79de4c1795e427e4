"""The local serving target: one model server on this machine, where versions change without a failed request."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import ArtifactError, DeploymentError
from mlops_assets.serving.declaration import CANDIDATE, Declaration, ServedVersion
from resources.local.background_server import BackgroundServer
from resources.serving.golden_rows import Endpoint, post_json
from resources.serving.serving_target import ServingTarget

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

INDEX_TIMEOUT_S = 5


class LocalServing(ServingTarget):
    """Deploys to the model server, which is started when it does not run and outlives the Dagster run.

    `<state>/models/<model>/serving.json` declares what is served, so that a server that was killed comes back with it.
    """

    state: str
    port: int
    grpc_port: int | None = None
    max_body_mib: int = 8
    max_rows: int = 100_000
    log_uri: str | None = None

    @property
    def models(self) -> Path:
        """The folder of all models, which the server reads."""
        return Path(self.state) / "models"

    @property
    def server(self) -> BackgroundServer:
        """The process of the model server."""
        command = [sys.executable, "-m", "mlops_assets.serving.model_server"]
        command += ["--models", str(self.models), "--port", str(self.port), "--token-file", str(self._token_file)]
        command += ["--max-body-mib", str(self.max_body_mib), "--max-rows", str(self.max_rows)]
        if self.log_uri:
            command += ["--log-uri", self.log_uri]
        if self.grpc_port:
            command += ["--grpc-port", str(self.grpc_port)]
        variables = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        return BackgroundServer(Path(self.state), "serving", self.port, "/v2/health/live", command, variables)

    @property
    def _token_file(self) -> Path:
        """Where the server keeps what it wants of whoever loads models."""
        return Path(self.state) / "token"

    def warm_up(self) -> None:
        """Start the server in the background, so that it answers by the time it is needed."""
        self.server.launch()

    @contextmanager
    def exclusive(self, model: str) -> Generator[None]:
        folder = self.models / model
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def current(self, model: str) -> ServedVersion | None:
        try:
            return Declaration.read(self.models / model).champion
        except FileNotFoundError:
            return None

    def store(self, model: str, version: ServedVersion, artifact: Path) -> None:
        target = self.models / model / version.folder
        draft = target.with_name(f".{version.folder}.{uuid.uuid4().hex}")
        shutil.copytree(artifact, draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)

    def start_candidate(self, model: str, version: ServedVersion) -> Endpoint:
        self._declare(model, Declaration(champion=self.current(model), candidate=version))
        self._load(model)
        return Endpoint(url=self.server.url, model=model + CANDIDATE)

    def retire_candidate(self, model: str) -> None:
        champion = self.current(model)
        self._declare(model, Declaration(champion=champion))
        if champion:
            self._load(model)

    def make_champion(self, model: str, version: ServedVersion) -> Endpoint:
        self._declare(model, Declaration(champion=version))
        self._load(model)
        return Endpoint(url=self.server.url, model=model)

    def rollback(self, model: str, before: ServedVersion | None) -> None:
        self._declare(model, Declaration(champion=before))
        if before or self.server.pid():  # one that does not run has nothing to take down
            self._load(model)

    def served(self) -> list[str]:
        return [path.parent.name for path in sorted(self.models.glob(f"*/{Declaration.FILE}")) if _serves(path.parent)]

    def refused(self) -> dict[str, str]:
        """The models that the running server does not serve as declared, with the reason; empty when none answers."""
        request = urllib.request.Request(f"{self.server.url}/v2/repository/index", b"{}")
        try:
            with urllib.request.urlopen(request, timeout=INDEX_TIMEOUT_S) as answer:
                index: list[dict[str, str]] = json.load(answer)
        except (OSError, ValueError):
            return {}
        return {entry["name"]: entry["reason"] for entry in index if entry["reason"]}

    def delete_all_but(self, model: str, versions: list[ServedVersion]) -> None:
        kept = {version.folder for version in versions}
        for path in (self.models / model).iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def post(self, url: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """As every target, and a server that does not answer is started again."""
        try:
            return post_json(url, body, before_retry=self.server.ensure_running, headers=headers)
        except OSError as error:
            remedy = f"see {self.server.log}"
            raise DeploymentError(f"the model server does not answer ({error})", remedy=remedy) from error

    def _load(self, model: str) -> None:
        """Have the server read the model's declaration; a server that has just started has read it already."""
        url = f"{self.server.ensure_running()}/v2/repository/models/{model}/load"
        self.post(url, {}, {"authorization": f"Bearer {self._token_file.read_text()}"})

    def _declare(self, model: str, declaration: Declaration) -> None:
        """Replace the declaration as a whole, so that it outlives a crash of the machine."""
        path = self.models / model / Declaration.FILE
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with draft.open("w") as file:
            file.write(declaration.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def _serves(folder: Path) -> bool:
    try:
        declared = Declaration.read(folder)
    except ArtifactError:
        return True  # nobody knows
    return bool(declared.champion or declared.candidate)
