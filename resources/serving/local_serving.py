"""The local serving target: one model server on this machine, where versions change without a failed request."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DeploymentError, MlopsError
from mlops_assets.ml.inference.artifact import ModelSignature
from resources.local.background_server import BackgroundServer
from resources.serving.serving_target import Proof, Serving, post, prove

if TYPE_CHECKING:
    from collections.abc import Generator

DECLARATION = "serving.json"


class LocalServing(Serving):
    """Rolls versions out to the model server, which is started when it does not run and outlives the Dagster run.

    `<state>/models/<model>/serving.json` declares what is served, so that a server that was killed comes back with it.
    """

    state: str
    port: int

    @property
    def server(self) -> BackgroundServer:
        """The process."""
        models = self._folder("")
        command = [
            sys.executable,
            "-m",
            "mlops_assets.serving.model_server",
            "--models",
            str(models),
            "--port",
            str(self.port),
        ]
        variables = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        return BackgroundServer(Path(self.state), "serving", self.port, "/v2/health/live", command, variables)

    def warm_up(self) -> None:
        """Start the server in the background, so that it answers by the time it is needed."""
        self.server.launch()

    def roll_out(self, model: str, artifact: Path, sha256: str, version: int) -> Proof:
        """Serve a version: up as candidate, proved on its golden rows over HTTP, swapped in, proved again.

        Raises:
            DeploymentError: it was refused or answered wrongly; the version that answered before still does.
        """
        with self._alone(model):
            before = self._declared(model)
            served = {"folder": f"{version}-{sha256[:12]}", "sha256": sha256, "version": str(version)}
            self._place(model, artifact, served["folder"])
            signature = ModelSignature.read(artifact)
            if before.get("champion") != served:
                self._try_candidate(model, before, served, signature)
            self._declare(model, {"champion": served, "candidate": None})
            try:
                self._load(model)
                proof = self._prove(model, signature)
            except MlopsError as error:
                self._declare(model, {"champion": before.get("champion"), "candidate": None})
                self._load(model)
                raise DeploymentError(f"Version {version} of {model} was rolled back: {error}") from error
            self._clean(model, keep={served["folder"], (before.get("champion") or served)["folder"]})
            return proof

    def current(self, model: str) -> dict[str, str] | None:
        """Version, digest and folder of what is served under the model's name."""
        return self._declared(model).get("champion")

    def _try_candidate(
        self, model: str, before: dict[str, Any], served: dict[str, str], signature: ModelSignature
    ) -> None:
        champion = before.get("champion")
        self._declare(model, {"champion": champion, "candidate": served})
        try:
            self._load(model)
            self._prove(model, signature, f"{model}-candidate")
        except MlopsError as error:
            self._declare(model, {"champion": champion, "candidate": None})
            stays = f"version {champion['version']} keeps answering" if champion else "nothing is served"
            if champion:
                self._load(model)
            raise DeploymentError(
                f"Version {served['version']} of {model} was not rolled out, {stays}: {error}"
            ) from error

    def _load(self, model: str) -> None:
        """Have the server read the model's declaration; a server that has just started has read it already."""
        self.server.ensure_running()
        self._post(f"/v2/repository/models/{model}/load", {})

    def _prove(self, model: str, signature: ModelSignature, name: str | None = None) -> Proof:
        return prove(self._post, self.server.url, model, signature, name)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return post(self.server.url + path, body, absent=self.server.ensure_running)
        except OSError as error:
            raise DeploymentError(f"the model server does not answer ({error}); see {self.server.log}") from error

    # ---- files ----
    def _folder(self, model: str) -> Path:
        return Path(self.state) / "models" / model

    def _place(self, model: str, artifact: Path, name: str) -> None:
        target = self._folder(model) / name
        draft = self._folder(model) / f".{name}.{uuid.uuid4().hex}"
        shutil.copytree(artifact, draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)

    def _clean(self, model: str, keep: set[str]) -> None:
        for path in self._folder(model).iterdir():
            if path.is_dir() and path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def _declared(self, model: str) -> dict[str, Any]:
        try:
            return json.loads((self._folder(model) / DECLARATION).read_text())
        except FileNotFoundError:
            return {}

    def _declare(self, model: str, declaration: dict[str, Any]) -> None:
        path = self._folder(model) / DECLARATION
        draft = path.with_name(f".{DECLARATION}.{uuid.uuid4().hex}")
        with draft.open("w") as file:
            json.dump(declaration, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    @contextmanager
    def _alone(self, model: str) -> Generator[None]:
        self._folder(model).mkdir(parents=True, exist_ok=True)
        with (self._folder(model) / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
