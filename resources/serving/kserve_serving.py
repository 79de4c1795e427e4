"""The serving target of a cluster: an InferenceService for each model, in KServe's Standard mode."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.inference.artifact import GRAPH, ModelSignature
from mlops_assets.serving.declaration import CANDIDATE, ServedVersion
from mlops_assets.serving.log_policy import InferenceLogPolicy
from resources.kubernetes.api import in_cluster
from resources.kubernetes.labels import EXPLAIN, LOG_POLICY, MODEL, SERVICE, SHA256, VERSION
from resources.lake.lake import Lake
from resources.serving.cluster_services import ClusterServices, transformer_of
from resources.serving.exposure import Kind, credential, exposure
from resources.serving.golden_rows import Endpoint
from resources.serving.kserve_manifest import KSERVE, inference_service
from resources.serving.predictor_pod import covers, service_name
from resources.serving.service_settings import ONE_POD, USUAL, ServiceSettings
from resources.serving.serving_target import ServingTarget

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


class RunningVersion(ServedVersion):
    """A version that is served, how its service is laid out, and the manifest by which it comes back."""

    service: ServiceSettings
    manifest: dict[str, Any]


class KServe(ServingTarget):
    """Deploys to InferenceServices of this pod's namespace.

    A version comes up beside the champion as `<model>-candidate`. Then the model's own service gets it; its Deployment
    keeps the old pods until the new ones are ready.
    """

    lake: Lake
    image: str
    replicas: int = 2
    public_url: str | None = None
    prefix: str = ""
    max_body_mib: int = 8
    max_rows: int = 100_000
    prometheus: str | None = None
    gateway: str | None = None
    ready_within_s: int = 300
    _settings: ServiceSettings | None = PrivateAttr(default=None)
    _candidate_pods: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def services(self) -> ClusterServices:
        """The InferenceServices beside this pod."""
        return ClusterServices(KSERVE, in_cluster())

    def with_service(self, service: ServiceSettings | None) -> KServe:
        target = self.model_copy()
        target._settings = service
        return target

    def exclusive(self, model: str) -> AbstractContextManager[None]:
        """Of two that replace a service at once, Kubernetes refuses one by its resource version."""
        return nullcontext()

    def current(self, model: str) -> RunningVersion | None:
        found = self.services.read(service_name(model))
        if found is None:
            return None
        metadata = {key: found["metadata"][key] for key in ("name", "labels", "annotations")}
        about = metadata["annotations"]
        log = InferenceLogPolicy.model_validate_json(about[LOG_POLICY]) if LOG_POLICY in about else None
        version = ServedVersion.of(about[VERSION], about[SHA256], log, explain=EXPLAIN in about)
        manifest = {key: found[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": metadata}
        return RunningVersion(**version.model_dump(), service=_settings(manifest), manifest=manifest)

    def store(self, model: str, version: ServedVersion, artifact: Path) -> None:
        for name in (GRAPH, ModelSignature.FILE):
            self.lake.store.upload(artifact / name, f"{_prefix(model, version)}/{name}")

    def serves(self, model: str, version: ServedVersion) -> bool:
        """Whether the service would stay as it is: another image is another service, too."""
        running = self.current(model)
        return running is not None and covers(running.manifest["spec"], self._manifest(model, version)["spec"])

    def start_candidate(self, model: str, version: ServedVersion) -> Endpoint:
        endpoint = self._applied(model, self._manifest(model, version, CANDIDATE))
        self._candidate_pods = self.services.live_pods(service_name(model) + CANDIDATE)
        return endpoint

    def candidate_has_moved(self, model: str) -> bool:
        """A container that ends starts again in its pod; another pod comes in the place of one that was taken away."""
        services, name = self.services, service_name(model) + CANDIDATE
        pods = services.live_pods(name)
        if services.read(name) is None or not pods or pods & self._candidate_pods:
            return False
        services.wait_until_ready(name, self.ready_within_s)
        self._candidate_pods = services.live_pods(name)
        return True

    def retire_candidate(self, model: str) -> None:
        self.services.delete(service_name(model) + CANDIDATE)

    def make_champion(self, model: str, version: ServedVersion) -> Endpoint:
        """The candidate goes first, so that there need not be room for three."""
        self.retire_candidate(model)
        manifest = self._manifest(model, version)
        endpoint = self._applied(model, manifest)
        self.services.keep_up(service_name(model))
        self._expose(model, manifest)
        return endpoint

    def rollback(self, model: str, before: ServedVersion | None) -> None:
        if before is None:
            # By its owner the route would go in any order with what guards it
            self._expose(model, None)
            self.services.delete(service_name(model))
        else:
            assert isinstance(before, RunningVersion)
            self._applied(model, before.manifest)
            self._expose(model, before.manifest)

    def served(self) -> list[str]:
        return sorted({name for service in self.services.list() if (name := service["metadata"]["labels"].get(MODEL))})

    def delete_all_but(self, model: str, versions: list[ServedVersion]) -> None:
        kept = tuple(f"{_prefix(model, version)}/" for version in versions)
        keys = [item.key for item in self.lake.store.stored(f"served/{model}")]
        self.lake.store.delete_many([key for key in keys if not key.startswith(kept)])

    def _manifest(self, model: str, version: ServedVersion, suffix: str = "") -> dict[str, Any]:
        folder, name = _prefix(model, version), service_name(model) + suffix
        size = sum(item.size for item in self.lake.store.stored(folder))
        service = self._settings
        if service is None:
            running = self.current(model)
            service = running.service if running else USUAL
        if suffix:
            service = service.model_copy(update={"scale": ONE_POD, "looked_up": (), "expose": None})
        uri = f"{self.lake.uri}/{folder}"
        return self._object(
            name,
            model,
            version,
            uri,
            self.image,
            size=size,
            replicas=self.replicas,
            service=service,
            prefix=self.prefix,
            max_body_mib=self.max_body_mib,
            max_rows=self.max_rows,
            lake_uri=self.lake.uri,
            is_candidate=bool(suffix),
        )

    def _applied(self, model: str, manifest: dict[str, Any]) -> Endpoint:
        """Where a service answers, once it does with the pods of this manifest alone."""
        services, name = self.services, manifest["metadata"]["name"]
        services.clear_up(services.apply(manifest), manifest)
        services.wait_until_ready(name, self.ready_within_s)
        namespace = services.namespace
        service, port = self._service(name)
        asked = self._asked(manifest)
        settings = _settings(manifest)
        public_url = self.public_url and public_address(self.public_url, name, namespace)
        if settings.expose:
            public_url = f"https://{settings.expose.host}"
        return Endpoint(
            url=f"http://{service}.{namespace}" if port == 80 else f"http://{service}.{namespace}:{port}",
            model=model,
            public_url=public_url,
            forward=f"kubectl port-forward -n {namespace} service/{asked} 8080:{port}",
            transformer=None if asked == service else f"http://{asked}.{namespace}",
            looked_up=settings.looked_up if asked != service else (),
            credential=credential(settings.expose.auth) if settings.expose else None,
            has_page=asked == service or settings.expose is not None,  # a transformer shows none
        )

    def _asked(self, manifest: dict[str, Any]) -> str:
        """The Service that callers ask."""
        name = manifest["metadata"]["name"]
        return transformer_of(name) if "transformer" in manifest["spec"] else self._service(name)[0]

    def _expose(self, model: str, manifest: dict[str, Any] | None) -> None:
        """Let the world in as a champion's manifest says, and nobody else; without one nobody.

        Raises:
            DeploymentError: no gateway is known, or Kubernetes refuses an object.
        """
        name, wanted = service_name(model), dict[Kind, dict[str, Any]]()
        expose = _settings(manifest).expose if manifest else None
        if manifest and expose:
            if self.gateway is None:
                what = f"{model} is exposed by the version that is to answer, and no gateway is known"
                raise DeploymentError(what, remedy="set MLOPS_GATEWAY to namespace/name/listener of the Gateway")
            owner = self.services.owner(name)
            if owner is None:
                return  # somebody has deleted it meanwhile
            service, _ = self._service(name)
            wanted = exposure(name, model, expose, self.gateway, self._asked(manifest), service, owner)
        self.services.expose(name, wanted)

    def _object(self, *arguments: Any, **settings: Any) -> dict[str, Any]:
        """The object that serves a version; it is given what `inference_service` is."""
        services, prometheus = self.services, self.prometheus
        image = services.image_here() if settings["service"].looked_up else ""
        return inference_service(
            *arguments, **settings, platform_image=image, namespace=services.namespace, prometheus=prometheus
        )

    def _service(self, name: str) -> tuple[str, int]:
        """The Service of such an object, and its port for HTTP."""
        return f"{name}-predictor", 80


def public_address(pattern: str, service: str, namespace: str) -> str:
    """The address of a service in the world.

    >>> public_address("https://{service}.{namespace}.example.com", "flight-delay", "mlops")
    'https://flight-delay.mlops.example.com'
    """
    return pattern.replace("{service}", service).replace("{namespace}", namespace).rstrip("/")


def _settings(manifest: dict[str, Any]) -> ServiceSettings:
    return ServiceSettings.model_validate_json(manifest["metadata"]["annotations"].get(SERVICE, "{}"))


def _prefix(model: str, version: ServedVersion) -> str:
    return f"served/{model}/{version.folder}"
