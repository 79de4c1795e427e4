"""The local serving target: one model server on this machine, where versions change without a failed request."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import ArtifactError, DeploymentError
from mlops_assets.serving.declaration import Declaration, ServedVersion
from resources.local.background_server import BackgroundServer, port_is_taken
from resources.serving.golden_rows import Endpoint, post_json
from resources.serving.serving_target import ServingTarget

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

INDEX_TIMEOUT_S = 5


class LocalServing(ServingTarget):
    """Deploys to the model server, which is started when it does not run and outlives the Dagster run, and to a second
    one for candidates, which does not.

    `<state>/models/<model>/serving.json` declares what is served, so that a server that was killed comes back with it.
    """

    state: str
    port: int
    grpc_port: int | None = None
    max_body_mib: int = 8
    max_rows: int = 100_000
    lake_uri: str | None = None

    @property
    def models(self) -> Path:
        """The folder of all models, which the server reads."""
        return Path(self.state) / "models"

    @property
    def server(self) -> BackgroundServer:
        """The process that serves the champions."""
        more = ["--grpc-port", str(self.grpc_port)] if self.grpc_port else []
        return self._server("serving", self.port, more)

    @property
    def candidates(self) -> BackgroundServer:
        """The process that serves the candidates, so that none takes a champion down; it runs while there are any."""
        record = Path(self.state) / "candidates.port"
        with suppress(FileNotFoundError, ValueError):
            server = self._server("candidates", int(record.read_text()), ["--candidates"])
            if server.pid() or not port_is_taken(server.port):
                return server
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(str(port))
        return self._server("candidates", port, ["--candidates"])

    def _server(self, name: str, port: int, more: list[str]) -> BackgroundServer:
        command = [sys.executable, "-m", "mlops_assets.serving.model_server", *more]
        command += ["--models", str(self.models), "--port", str(port), "--token-file", str(self._token_file)]
        command += ["--max-body-mib", str(self.max_body_mib), "--max-rows", str(self.max_rows)]
        if self.lake_uri:
            command += ["--lake-uri", self.lake_uri]
        variables = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        return BackgroundServer(Path(self.state), name, port, "/v2/health/live", command, variables)

    def stop(self) -> None:
        """End both servers; what is served is served again when they are started."""
        for server in (self.candidates, self.server):
            server.stop()

    @property
    def _token_file(self) -> Path:
        """Where the server keeps what it wants of whoever loads models."""
        return Path(self.state) / "token"

    def warm_up(self) -> None:
        """Start both servers in the background, so that they answer by the time they are needed."""
        self.server.launch()
        with self._candidates_alone():
            self.candidates.launch()

    @contextmanager
    def exclusive(self, model: str) -> Generator[None]:
        folder = self.models / model
        with _writing():
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("w")
        with lock:
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
        try:
            with _writing():
                shutil.copytree(artifact, draft)
                shutil.rmtree(target, ignore_errors=True)
                draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # a disk that is full is not made fuller by each try

    def start_candidate(self, model: str, version: ServedVersion) -> Endpoint:
        self._declare(model, Declaration(champion=self.current(model), candidate=version))
        with self._candidates_alone():
            self._load(model, self.candidates)
        return Endpoint(url=self.candidates.url, model=model)

    def retire_candidate(self, model: str) -> None:
        with self._candidates_alone():
            self._declare(model, Declaration(champion=self.current(model)))
            if not any(_declared(path.parent).candidate for path in self.models.glob(f"*/{Declaration.FILE}")):
                self.candidates.stop()
            elif self.candidates.pid():
                self._load(model, self.candidates)

    def make_champion(self, model: str, version: ServedVersion) -> Endpoint:
        self.retire_candidate(model)
        self._declare(model, Declaration(champion=version))
        self._load(model, self.server)
        return Endpoint(url=self.server.url, model=model)

    def rollback(self, model: str, before: ServedVersion | None) -> None:
        self._declare(model, Declaration(champion=before))
        if before or self.server.pid():  # one that does not run has nothing to take down
            self._load(model, self.server)

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
        server = self.server if url.startswith(f"{self.server.url}/") else self.candidates
        try:
            return post_json(url, body, before_retry=server.ensure_running, headers=headers)
        except OSError as error:
            remedy = f"see {server.log}"
            raise DeploymentError(f"the model server does not answer ({error})", remedy=remedy) from error

    @contextmanager
    def _candidates_alone(self) -> Generator[None]:
        """Their process is not stopped by one deployment while another brings its candidate there."""
        self.models.mkdir(parents=True, exist_ok=True)
        with (Path(self.state) / "candidates.alone").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _load(self, model: str, server: BackgroundServer) -> None:
        """Have a server read the model's declaration; one that has just started has read it already."""
        url = f"{server.ensure_running()}/v2/repository/models/{model}/load"
        self.post(url, {}, {"authorization": f"Bearer {self._token_file.read_text()}"})

    def _declare(self, model: str, declaration: Declaration) -> None:
        """Replace the declaration as a whole, so that it outlives a crash of the machine."""
        path = self.models / model / Declaration.FILE
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with _writing():
                with draft.open("w") as file:
                    file.write(declaration.model_dump_json(indent=1))
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _writing() -> Generator[None]:
    """Say what the file system refuses, where the model server has its files."""
    try:
        yield
    except OSError as error:
        # Of several files copytree tells each, of which the last has the reason of all
        reason = error.args[0][-1][-1] if isinstance(error, shutil.Error) else error.strerror or error
        where = f" at {error.filename}" if error.filename else ""
        what = f"what the model server is to serve cannot be written: {reason}{where}"
        raise DeploymentError(what, remedy="make room or correct the access, and run again") from error


def _serves(folder: Path) -> bool:
    try:
        declared = Declaration.read(folder)
    except ArtifactError:
        return True  # nobody knows
    return bool(declared.champion or declared.candidate)


def _declared(folder: Path) -> Declaration:
    try:
        return Declaration.read(folder)
    except (ArtifactError, FileNotFoundError):
        return Declaration()
