"""MLflow's model registry: versions of artifacts, and aliases whose moves the ledger has in their order."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from mlops_assets.ml.errors import TrackingRefused
from mlops_assets.ml.inference.artifact import GRAPH, MAX_BYTES
from mlops_assets.ml.values import Value
from resources.environment import Environment
from resources.lake.digests import sha256
from resources.lake.lake import Lake
from resources.lake.space import split_name
from resources.tracking.alias_ledger import AliasLedger
from resources.tracking.mlflow_client import mlflow_client
from resources.tracking.mlflow_errors import translate_errors
from resources.tracking.tracked_run import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

Found = TypeVar("Found")
NO_SUCH_THING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}
CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class RegisteredVersion(Value):
    """A version in the model registry."""

    model: str
    version: int
    sha256: str
    run_id: str


class VersionTags(Value):
    """A version in the model registry as it was found there."""

    version: int
    tags: dict[str, str]
    aliases: tuple[str, ...]
    registered_at: datetime


class ModelRegistry(dg.ConfigurableResource[Any]):
    """Model versions. Without `uri` the embedded server is used, and started when it does not run.

    Models are those of the lake's space. `ui_url` is where browsers find MLflow, where that is not `uri`.
    """

    uri: str | None
    ui_url: str | None = None
    lake: dg.ResourceDependency[Lake]

    @cached_property
    def address(self) -> str:
        """The tracking server's URL."""
        return self.uri.rstrip("/") if self.uri else Environment.read().mlflow_server().ensure_running()

    @property
    def page(self) -> str:
        """MLflow's page in a browser."""
        return (self.ui_url or self.address).rstrip("/")

    @cached_property
    def client(self) -> "MlflowClient":
        """A client that soon gives up when the server cannot be reached."""
        for name, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        return mlflow_client(self.address)

    @translate_errors
    def version_of(self, model: str, sha256: str) -> RegisteredVersion | None:
        """The newest version that holds the artifact with this digest, or None; a tag that says so is not believed."""
        found = self._search(model, sha256)
        candidates = filter(None, map(_registered, sorted(found, key=lambda version: -int(version.version))))
        return next((version for version in candidates if self._holds_its_artifact(version)), None)

    def _search(self, model: str, sha256: str) -> "list[ModelVersion]":
        return list(
            self.client.search_model_versions(f"name = '{self.lake.name_of(model)}' and tags.sha256 = '{sha256}'")
        )

    def _holds_its_artifact(self, version: RegisteredVersion) -> bool:
        with tempfile.TemporaryDirectory() as draft:
            try:
                return sha256(self.download(version, Path(draft)) / GRAPH) == version.sha256
            except TrackingRefused:
                return False

    @translate_errors
    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """The version an alias points to, or None.

        Raises:
            TrackingRefused: the version was not registered by this platform, so that nothing is known of it.
        """
        found = self._aliased(model, alias)
        remedy = f"take the alias {alias} off in MLflow, or point it at a version of this platform"
        return found and _ours(found, f", which has the alias {alias} in MLflow,", remedy)

    @translate_errors
    def numbered(self, model: str, version: int) -> RegisteredVersion | None:
        """The version with a number, or None.

        Raises:
            TrackingRefused: it was not registered by this platform, so that nothing is known of it.
        """
        found = _unless_missing(lambda: self.client.get_model_version(self.lake.name_of(model), str(version)))
        return found and _ours(found, " in MLflow", "name a version of this platform")

    def _aliased(self, model: str, alias: str) -> "ModelVersion | None":
        return _unless_missing(lambda: self.client.get_model_version_by_alias(self.lake.name_of(model), alias))

    @translate_errors
    def tags_of(self, version: RegisteredVersion) -> dict[str, str]:
        """The tags of a version, which say what it was made from."""
        return dict(self.client.get_model_version(self.lake.name_of(version.model), str(version.version)).tags)

    @translate_errors
    def described(self, model: str, number: int) -> VersionTags | None:
        """A version, ours or not, but for its aliases; or None."""
        found = _unless_missing(lambda: self.client.get_model_version(self.lake.name_of(model), str(number)))
        return found and _described(found)

    @translate_errors
    def with_alias(self, alias: str) -> dict[str, int]:
        """The version that has an alias, of each of the space's models that has one; however many, in one request."""
        found = {model.name: model.aliases for model in self._models()}
        mine = self.lake.models_of(found)
        aliases = {model: found[self.lake.name_of(model)].get(alias) for model in mine}
        return {model: int(number) for model, number in aliases.items() if number is not None}

    @translate_errors
    def versions(self, model: str) -> "list[VersionTags]":
        """All versions that MLflow has under a model's name, ours or not, the newest first; none where it has no such
        model."""
        return self._versions(self.lake.name_of(model))

    @translate_errors
    def versions_by_space(self, model: str) -> "dict[str, list[VersionTags]]":
        """All versions of a model in each space that has it, the newest first."""
        names = [name for name in self._names(f"name LIKE '%{model}'") if split_name(name)[1] == model]
        return {split_name(name)[0]: self._versions(name) for name in names}

    def _versions(self, name: str) -> "list[VersionTags]":
        known = _unless_missing(lambda: self.client.get_registered_model(name))
        if known is None:
            return []
        aliases = known.aliases
        found, token = list[VersionTags](), None
        while token != "":
            page = self.client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
            for version in page:
                number = int(version.version)
                named = tuple(alias for alias, of in aliases.items() if int(of) == number)
                found.append(_described(version, named))
            token = page.token or ""
        return sorted(found, key=lambda version: -version.version)

    @translate_errors
    def models(self) -> "dict[str, list[VersionTags]]":
        """The space's models that have a version of this platform, each with all its versions, the newest first."""
        found = {model: self.versions(model) for model in self.lake.models_of(self._names())}
        return {name: versions for name, versions in found.items() if any("snapshot" in one.tags for one in versions)}

    def _names(self, filter_string: str | None = None) -> list[str]:
        return [model.name for model in self._models(filter_string)]

    def _models(self, filter_string: str | None = None) -> "Iterator[RegisteredModel]":
        token = None
        while token != "":
            page = self.client.search_registered_models(filter_string, max_results=1000, page_token=token)
            yield from page
            token = page.token or ""

    @translate_errors
    def register(
        self, model: str, run: TrackedRun, artifact: str, tags: Mapping[str, str], description: str
    ) -> RegisteredVersion:
        """Register an artifact folder of the run as the next version of the model.

        The version that holds the artifact already is taken where there is one: of several runs that register the same
        digest one does. `tags` has that digest as `sha256`.
        """
        from mlflow.exceptions import MlflowException

        with self.lake.lock(model) as held:
            known = self.version_of(model, tags["sha256"])
            if known:
                return known
            try:
                self.client.create_registered_model(self.lake.name_of(model))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"{self.client.get_run(run.run_id).info.artifact_uri}/{artifact}"
            held.check()
            versioned = (self.lake.name_of(model), source, run.run_id, dict(tags))
            self.client.create_model_version(*versioned, description=description)
            return self._only_version(model, tags["sha256"], run.run_id)

    def _only_version(self, model: str, sha256: str, run_id: str) -> RegisteredVersion:
        """The version that was just made; MLflow's client makes it again when the answer was lost."""
        found = self._search(model, sha256)
        made = sorted(int(version.version) for version in found if version.run_id == run_id)
        for repeated in made[1:]:
            self.client.delete_model_version(self.lake.name_of(model), str(repeated))
        return RegisteredVersion(model=model, version=made[0], sha256=sha256, run_id=run_id)

    @translate_errors
    def move_alias(
        self, version: RegisteredVersion, alias: str, reason: str, actor: str, evidence: dict[str, Any]
    ) -> None:
        """Point an alias at a version and write that to the append-only ledger, unless it points there already.

        Both happen under the model's lock, so that the ledger has the moves in the order in which they were made.
        """
        with self.lake.lock(version.model) as held:
            ledger = AliasLedger(self.lake, version.model)
            written, before = ledger.last_version(alias), self._aliased(version.model, alias)
            if before is None or int(before.version) != version.version:
                held.check()
                self.client.set_registered_model_alias(self.lake.name_of(version.model), alias, str(version.version))
                written = int(before.version) if before else None
            elif written == version.version:
                return
            # An alias that was moved by a run that died before it wrote so is written down by the next one
            ledger.write(alias, version.version, version.sha256, reason, actor, written, evidence)

    @translate_errors
    def remove_alias(self, model: str, alias: str, reason: str, actor: str) -> int | None:
        """Take an alias off and write that to the ledger; the version that had it, None where it was off already."""
        with self.lake.lock(model) as held:
            before, written = self._aliased(model, alias), AliasLedger(self.lake, model).last_version(alias)
            if before is not None:
                held.check()
                self.client.delete_registered_model_alias(self.lake.name_of(model), alias)
                written = int(before.version)
            # One that was taken off by a process that died before it wrote so is written down by the next one
            if written is not None:
                self.write_removal(model, alias, reason, actor, written)
            return written

    def write_removal(self, model: str, alias: str, reason: str, actor: str, previous: int | None) -> None:
        """Write to the ledger that no version has an alias any more."""
        AliasLedger(self.lake, model).write(alias, None, None, reason, actor, previous, {})

    @translate_errors
    def download(self, version: RegisteredVersion, folder: Path) -> Path:
        """A folder with exactly the two files of a version that a predictor reads: model.onnx and model.json.

        Raises:
            TrackingRefused: the version does not have them.
        """
        target = folder / "artifact"
        target.mkdir()
        for name in MAX_BYTES:
            path = self._download_file(version, f"model/{name}", folder)
            path.rename(target / name)
        return target

    @translate_errors
    def add_file(self, version: RegisteredVersion, file: Path) -> None:
        """Log a file beside the artifact of a version, once; its digest is then a tag of the version."""
        tag = digest_tag(file.name)
        if tag not in self.tags_of(version):
            self.client.log_artifact(version.run_id, str(file), "model")
            name, number = self.lake.name_of(version.model), str(version.version)
            self.client.set_model_version_tag(name, number, tag, sha256(file))

    @translate_errors
    def file_of(self, version: RegisteredVersion, name: str, folder: Path) -> Path | None:
        """What `add_file` has logged, downloaded into `folder`; None where it has not.

        Raises:
            TrackingRefused: the file is gone, or has another digest than the version says.
        """
        digest = self.tags_of(version).get(digest_tag(name))
        if digest is None:
            return None
        file = self._download_file(version, f"model/{name}", folder)
        if sha256(file) != digest:
            what = f"{name} of version {version.version} of {version.model} in MLflow is not the file that was logged"
            remedy = f"take the tag {digest_tag(name)} off the version, and materialize the model's group again"
            raise TrackingRefused(what, remedy=remedy)
        return file

    def _download_file(self, version: RegisteredVersion, path: str, folder: Path) -> Path:
        names = {item.path for item in self.client.list_artifacts(version.run_id, path.rpartition("/")[0])}
        if path not in names:
            what = f"Version {version.version} of {version.model} in MLflow has no file {path} in its run"
            remedy = "take its aliases off, or restore the artifacts of the run"
            raise TrackingRefused(what, remedy=remedy)
        return Path(self.client.download_artifacts(version.run_id, path, str(folder)))

    def version_url(self, version: RegisteredVersion) -> str:
        """The version's page in MLflow."""
        return f"{self.page}/#/models/{self.lake.name_of(version.model)}/versions/{version.version}"


def _described(version: "ModelVersion", aliases: tuple[str, ...] = ()) -> VersionTags:
    made = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return VersionTags(version=int(version.version), tags=dict(version.tags), aliases=aliases, registered_at=made)


def _unless_missing(ask: Callable[[], Found]) -> Found | None:
    """What MLflow answers, None where it has no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code in NO_SUCH_THING:
            return None
        raise


def _ours(version: "ModelVersion", told: str, remedy: str) -> RegisteredVersion:
    found = _registered(version)
    if found is None:
        what = f"Version {version.version} of {version.name}{told} was not registered here"
        raise TrackingRefused(f"{what}: it has no run, or no tag sha256 with the digest of an artifact", remedy=remedy)
    return found


def digest_tag(name: str) -> str:
    """The tag that has the digest of a file.

    >>> digest_tag("reference_profile.json")
    'reference_profile.sha256'
    """
    return f"{Path(name).stem}.sha256"


def _registered(version: "ModelVersion") -> RegisteredVersion | None:
    """A version that this platform has registered, None for any other."""
    digest = version.tags.get("sha256", "")
    if not version.run_id or not re.fullmatch("[0-9a-f]{64}", digest):
        return None
    _, model = split_name(version.name)
    return RegisteredVersion(model=model, version=int(version.version), sha256=digest, run_id=version.run_id)
