"""The serving target of a cluster: an InferenceService for each model, in KServe's Standard mode."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DeploymentError, MlopsError
from mlops_assets.ml.inference.artifact import GRAPH, ModelSignature
from resources.kubernetes.pod_diagnosis import Waiting, waiting
from resources.kubernetes.pods import Pods, in_cluster
from resources.lake.lake import Lake
from resources.serving.serving_target import Proof, Serving, post, prove

if TYPE_CHECKING:
    from pathlib import Path

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
CANDIDATE = "-candidate"
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class KServe(Serving):
    """Rolls versions out to InferenceServices of this pod's namespace.

    A version comes up beside the champion as `<model>-candidate` and is proved there. Then the model's own service gets
    it; its Deployment keeps the old pods until the new ones are ready. When a proof fails, the old service stays or
    comes back.
    """

    lake: Lake
    image: str
    ready_within_s: int = 300

    def warm_up(self) -> None:
        """Nothing: the InferenceService is not there before its model is."""

    def roll_out(self, model: str, artifact: Path, sha256: str, version: int) -> Proof:
        in_cluster()
        signature = ModelSignature.read(artifact)
        place = f"served/{model}/{version}-{sha256[:12]}"
        for name in (GRAPH, ModelSignature.FILE):
            self.lake.store.upload(artifact / name, f"{place}/{name}")
        wanted = self._service(model, f"{self.lake.uri}/{place}", sha256, version)
        before = self._read(service_name(model))
        if before is not None and before["spec"] == wanted["spec"]:
            return self._proved(model, signature)
        self._try_candidate(model, wanted, signature, before)
        try:
            self._apply(wanted)
            return self._proved(model, signature)
        except MlopsError as error:
            self._restore(model, before)
            raise DeploymentError(f"Version {version} of {model} was rolled back: {error}") from error

    def current(self, model: str) -> dict[str, str] | None:
        in_cluster()
        service = self._read(service_name(model))
        if service is None:
            return None
        notes = service["metadata"]["annotations"]
        return {"version": notes["mlops.dev/version"], "sha256": notes["mlops.dev/sha256"]}

    def _try_candidate(
        self, model: str, wanted: dict[str, Any], signature: ModelSignature, before: dict[str, Any] | None
    ) -> None:
        name = service_name(model) + CANDIDATE
        candidate = wanted | {"metadata": wanted["metadata"] | {"name": name}}
        try:
            self._apply(candidate)
            self._proved(model, signature, name)
        except MlopsError as error:
            version = wanted["metadata"]["annotations"]["mlops.dev/version"]
            stays = "nothing is served"
            if before is not None:
                stays = f"version {before['metadata']['annotations']['mlops.dev/version']} keeps answering"
            raise DeploymentError(f"Version {version} of {model} was not rolled out, {stays}: {error}") from error
        finally:
            self._delete(name)

    def _restore(self, model: str, before: dict[str, Any] | None) -> None:
        if before is None:
            self._delete(service_name(model))
        else:
            kept = {key: before["metadata"][key] for key in ("name", "labels", "annotations")}
            self._apply({**_head(), "metadata": kept, "spec": before["spec"]})
            self._wait_ready(service_name(model))

    def _proved(self, model: str, signature: ModelSignature, name: str | None = None) -> Proof:
        """The proof over HTTP, once the service called `name` (or as the model) answers with its new pods alone."""
        name = name or service_name(model)
        self._wait_ready(name)
        url = f"http://{name}-predictor.{self._namespace}"
        return prove(lambda path, body: _post(url + path, body), url, model, signature)

    # ---- Kubernetes ----
    @property
    def _namespace(self) -> str:
        return in_cluster()

    def _service(self, model: str, uri: str, sha256: str, version: int) -> dict[str, Any]:
        arguments = ["--fetch", uri, "--model", model, "--model-version", str(version), "--sha256", sha256]
        container = {
            "name": "kserve-container",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["--models", "/tmp/models", "--port", "8080", "--host", "0.0.0.0", *arguments],  # noqa: S104, S108
            "envFrom": [
                {"configMapRef": {"name": "mlops-environment"}},
                {"secretRef": {"name": "lake-credentials", "optional": True}},
            ],
            "ports": [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}],
            # Ready means that the golden rows were answered as in training
            "readinessProbe": {"httpGet": {"path": f"/v2/models/{model}/ready", "port": 8080}, "periodSeconds": 2},
            "livenessProbe": {
                "httpGet": {"path": "/v2/health/live", "port": 8080},
                "initialDelaySeconds": 60,
                "periodSeconds": 10,
            },
            "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
            "securityContext": RESTRICTED,
            "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108
        }
        predictor = {
            "minReplicas": 1,
            "maxReplicas": 3,
            "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "serviceAccountName": "predictor",
            "automountServiceAccountToken": False,
            "priorityClassName": "mlops-serving",
            "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "labels": {"mlops.dev/model": model, "mlops.dev/stage": "serving"},
        }
        notes = {
            "serving.kserve.io/deploymentMode": "Standard",
            "mlops.dev/version": str(version),
            "mlops.dev/sha256": sha256,
            "mlops.dev/artifact": uri,
        }
        metadata = {"name": service_name(model), "annotations": notes, "labels": {"mlops.dev/model": model}}
        return {**_head(), "metadata": metadata, "spec": {"predictor": predictor}}

    def _read(self, name: str) -> dict[str, Any] | None:
        from kubernetes.client import ApiException, CustomObjectsApi

        api: Any = CustomObjectsApi()
        try:
            return api.get_namespaced_custom_object(GROUP, VERSION, self._namespace, PLURAL, name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _apply(self, service: dict[str, Any]) -> None:
        from kubernetes.client import ApiException, CustomObjectsApi

        api, name = CustomObjectsApi(), service["metadata"]["name"]
        place = (GROUP, VERSION, self._namespace, PLURAL)
        try:
            present = self._read(name)
            if present is None:
                api.create_namespaced_custom_object(*place, service)
            else:
                version = {"resourceVersion": present["metadata"]["resourceVersion"]}
                api.replace_namespaced_custom_object(
                    *place, name, service | {"metadata": service["metadata"] | version}
                )
        except ApiException as error:
            reason = json.loads(error.body or "{}").get("message", error.reason)
            raise DeploymentError(f"Kubernetes refuses the InferenceService {name}: {reason}") from error

    def _delete(self, name: str) -> None:
        from kubernetes.client import ApiException, CustomObjectsApi

        try:
            CustomObjectsApi().delete_namespaced_custom_object(GROUP, VERSION, self._namespace, PLURAL, name)
        except ApiException as error:
            if error.status != 404:
                raise

    def _wait_ready(self, name: str) -> None:
        """Wait until the newest pods answer, and only they."""
        deadline = time.monotonic() + self.ready_within_s
        pods = Pods(self._namespace)
        while True:
            service = self._read(name) or {}
            status = service.get("status", {})
            current = status.get("observedGeneration") == service.get("metadata", {}).get("generation")
            conditions = {item["type"]: item for item in status.get("conditions", [])}
            if current and conditions.get("Ready", {}).get("status") == "True" and pods.rolled_out(f"{name}-predictor"):
                return
            found = self._why_not_ready(pods, name)
            if found.final or time.monotonic() > deadline:
                told = conditions.get("PredictorReady", {}).get("message", "")
                reasons = ". ".join(part for part in (found.cause, found.remedy, told) if part)
                raise DeploymentError(f"the InferenceService {name} is not ready: {reasons}")
            time.sleep(1)

    def _why_not_ready(self, pods: Pods, name: str) -> Waiting:
        """What the newest pod waits for or died of."""
        newest = pods.newest(f"serving.kserve.io/inferenceservice={name}")
        if newest is None:
            return Waiting(cause="it has no pod yet")
        pod = newest["metadata"]["name"]
        container = (newest.get("status", {}).get("containerStatuses") or [{}])[0]
        if container.get("restartCount", 0) >= 1:
            lines = [line for line in pods.log(pod, previous=True).splitlines() if line.strip()]
            return Waiting(cause=f"its pod {pod} ended: {' | '.join(lines[-3:])}", final=True)
        if newest.get("status", {}).get("phase") == "Pending":
            return waiting("a cpu node", [], newest, pods.events(pod), pods.node_claims())
        return Waiting(cause=f"its pod {pod} runs, but the model is not ready")


def service_name(model: str) -> str:
    """The InferenceService of a model; Kubernetes' names have no underscores."""
    return model.replace("_", "-")


def _head() -> dict[str, str]:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "InferenceService"}


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        return post(url, body, absent=lambda: time.sleep(1))
    except OSError as error:
        raise DeploymentError(f"{url} does not answer: {error}") from error
