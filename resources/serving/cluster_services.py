"""What this project asks of the Kubernetes API about objects that serve models. Objects are dicts, as JSON has them."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.foreign_text import last_lines
from mlops_assets.serving.declaration import EXIT_REFUSED
from resources.kubernetes.api import api_client, created, reason_of
from resources.kubernetes.labels import MODEL, SPEC_SHA256
from resources.kubernetes.pod_accounts import account, known_events, last_words
from resources.kubernetes.pod_deaths import death
from resources.kubernetes.pod_objects import ended, ending, failing, holds, reason_given
from resources.kubernetes.pod_waits import Waiting, waiting
from resources.kubernetes.pods import Pods
from resources.serving.exposure import UNUSED_FIRST, Kind, exposed_as
from resources.serving.predictor_pod import KindOfService, covers, disruption_budget, owner_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MANAGER, APPLY = "mlops-assets", "application/apply-patch+yaml"  # JSON is YAML
AUTOSCALER = "serving.kserve.io/autoscalerClass"
SCALERS = {"hpa": ("autoscaling", "v2", "horizontalpodautoscalers"), "keda": ("keda.sh", "v1alpha1", "scaledobjects")}
DEPLOYMENTS, SERVICES = ("apps", "v1", "deployments"), ("", "v1", "services")
MAX_RESTARTS = 3
USUALLY_FALSE = ("Stopped",)  # a condition of KServe that holds when nothing is to run


def transformer_of(name: str) -> str:
    """The Deployment and the Service of the transformer of an InferenceService."""
    return f"{name}-transformer"


class ClusterServices:
    """The objects of one kind in one namespace, each of which serves a model."""

    def __init__(self, kind: KindOfService, namespace: str) -> None:
        from kubernetes import client as untyped

        client: Any = untyped
        self.kind, self.namespace = kind, namespace
        self._api = client.CustomObjectsApi(api_client())
        self._policy = client.PolicyV1Api(api_client())
        self._core = client.CoreV1Api(api_client())
        group, version = kind.api_version.split("/")
        self._kind, self._services = (group, version, kind.plural), (group, version, namespace, kind.plural)

    def read(self, name: str) -> dict[str, Any] | None:
        """A service, or None when there is none."""
        from kubernetes.client import ApiException

        try:
            return self._api.get_namespaced_custom_object(*self._services, name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def list(self) -> list[dict[str, Any]]:
        """Those that were made here, by the label of their model."""
        return self._api.list_namespaced_custom_object(*self._services, label_selector=MODEL)["items"]

    def apply(self, service: dict[str, Any]) -> dict[str, Any] | None:
        """Make a service what this says, and give what it was before.

        It is done server-side, so that what others have set beside it stays. Its own fields are taken whoever has set
        them meanwhile, and those that it has no more are removed.

        Raises:
            DeploymentError: Kubernetes refuses it, or is away.
        """
        from urllib3.exceptions import HTTPError

        name, as_wanted = service["metadata"]["name"], service
        try:
            present = self.read(name)
            if present is not None:
                # Of two that change a service at once, one is refused
                version = {"resourceVersion": present["metadata"]["resourceVersion"]}
                service = service | {"metadata": service["metadata"] | version}

            def done() -> bool | None:
                return covers(self.read(name), as_wanted) or None

            self._apply(service, self._api.patch_namespaced_custom_object, (*self._services, name), done)
        except HTTPError as error:
            what = f"The API server of Kubernetes is away, and the {self.kind.kind} {name} cannot be changed"
            raise DeploymentError(what, remedy="materialize it again when that is back") from error
        return present

    def clear_up(self, before: dict[str, Any] | None, service: dict[str, Any]) -> None:
        """Delete what KServe has made of a service as it was `before`, and leaves: an autoscaler of the other kind,
        beside which KEDA takes nothing, and a transformer.
        """
        if before is None:
            return
        name = service["metadata"]["name"]
        old, new = (item["metadata"].get("annotations", {}).get(AUTOSCALER) for item in (before, service))
        if old in SCALERS and old != new:
            self._delete(SCALERS[old], self.kind.deployment(name))
        if "transformer" in before["spec"] and "transformer" not in service["spec"]:
            for made in (SCALERS["hpa"], DEPLOYMENTS, SERVICES):
                self._delete(made, transformer_of(name))

    def image_here(self) -> str:
        """The image of the pod that this process runs in."""
        return Pods(self.namespace).pod(socket.gethostname())["spec"]["containers"][0]["image"]

    def keep_up(self, name: str) -> None:
        """Give a service that is there its PodDisruptionBudget.

        Raises:
            DeploymentError: Kubernetes refuses it.
        """
        service = self.read(name)
        if service is None:
            return  # somebody has deleted it meanwhile
        budget = disruption_budget(self.kind, service)
        self._apply(budget, self._policy.patch_namespaced_pod_disruption_budget, (name, self.namespace))

    def expose(self, name: str, wanted: dict[Kind, dict[str, Any]]) -> None:
        """Have these objects, by kind, expose a service, and no others.

        Raises:
            DeploymentError: Kubernetes refuses one, or does not know its kind.
        """
        for kind, item in wanted.items():
            group, version, plural = kind
            where = (group, version, self.namespace, plural, item["metadata"]["name"])
            self._apply(item, self._api.patch_namespaced_custom_object, where)
        for kind in UNUSED_FIRST:
            if kind not in wanted:
                self._delete(kind, exposed_as(name))

    def owner(self, name: str) -> dict[str, Any] | None:
        """The reference by which something goes with a service; None where there is none."""
        service = self.read(name)
        return owner_reference(self.kind, service) if service else None

    def delete(self, name: str) -> None:
        """Delete a service, if it is there."""
        self._delete(self._kind, name)

    def live_pods(self, name: str) -> frozenset[str]:
        """The uids of a service's pods, but for those that have ended or are to go."""
        found = Pods(self.namespace).matching(f"{self.kind.of_service}={name}")
        live = [pod["metadata"] for pod in found if not ended(pod)]
        return frozenset(metadata["uid"] for metadata in live if "deletionTimestamp" not in metadata)

    def wait_until_ready(self, name: str, timeout_s: float) -> None:
        """Wait until the newest pods of a service answer, and only they.

        Raises:
            DeploymentError: they do not, with what they wait for or died of.
        """
        deadline = time.monotonic() + timeout_s
        pods = Pods(self.namespace)
        while True:
            service = self.read(name) or {}
            status = service.get("status", {})
            # Not by status.observedGeneration: that is the Deployment's, which the autoscaler raises too
            spec_sha256 = service.get("metadata", {}).get("annotations", {}).get(SPEC_SHA256)
            conditions = {item["type"]: item for item in status.get("conditions", [])}
            ready = conditions.get("Ready", {}).get("status") == "True"
            wanted = [self.kind.deployment(name)]
            if "transformer" in service.get("spec", {}):
                wanted.append(transformer_of(name))
            if ready and all(pods.rolled_out(deployment, (SPEC_SHA256, spec_sha256)) for deployment in wanted):
                return
            selector = f"{self.kind.of_service}={name}"
            found = _why_not_ready(pods, selector)
            if found.final or time.monotonic() > deadline:
                reasons = ". ".join(part for part in (found.cause, found.remedy) if part)
                about = [*_unmet(conditions.values()), *_account_of_newest(pods, selector)]
                what = f"the {self.kind.kind} {name} is not ready: {reasons}"
                raise DeploymentError("\n".join([what, *about]))
            time.sleep(1)

    def _delete(self, kind: Kind, name: str) -> None:
        from kubernetes.client import ApiException

        group, version, plural = kind
        try:
            if kind == SERVICES:
                self._core.delete_namespaced_service(name, self.namespace)
            else:
                self._api.delete_namespaced_custom_object(group, version, self.namespace, plural, name)
        except ApiException as error:
            if error.status != 404:
                raise

    def _apply(
        self, item: dict[str, Any], patch: Any, where: tuple[str, ...], done: Callable[[], Any] = lambda: None
    ) -> None:
        """Apply an object; `done` tells whether a try whose answer was lost has done it."""
        from kubernetes.client import ApiException

        try:
            created(lambda: patch(*where, item, field_manager=MANAGER, force=True, _content_type=APPLY), done)
        except ApiException as error:
            what = f"Kubernetes refuses the {item['kind']} {item['metadata']['name']}: {reason_of(error)}"
            raise DeploymentError(what) from error


def _newest_not_ready(pods: Pods, selector: str) -> dict[str, Any] | None:
    """The newest of a service's pods, where some are not ready of these."""
    found = pods.matching(selector)
    return max(found, key=lambda pod: (not holds(pod, "Ready"), pod["metadata"]["creationTimestamp"]), default=None)


def _why_not_ready(pods: Pods, selector: str) -> Waiting:
    """What the newest pod that is not ready waits for or died of."""
    newest = _newest_not_ready(pods, selector)
    if newest is None:
        return Waiting(cause="it has no pod yet")
    pod = newest["metadata"]["name"]
    container = failing(newest)
    restarts = container.get("restartCount", 0)
    if restarts:
        # A role or a network that comes late ends a predictor once or twice
        end = death(None, newest, asked_in="deploy.resources")
        # Its log may be gone already: a node keeps that of one container before the last
        kept = last_lines(ending(container).get("message") or "")
        final = end.exit_code == EXIT_REFUSED or restarts >= MAX_RESTARTS
        said = _in_short(kept or last_words(pods, newest).lines)
        return Waiting(cause=f"its pod {pod} ended ({end.cause}): {said}", remedy=end.remedy, final=final)
    if newest.get("status", {}).get("phase") == "Pending":
        return waiting("a cpu node", [], newest, known_events(pods, pod).events, pods.node_claims())
    if holds(newest, "Ready"):
        return Waiting(cause=f"its pod {pod} is ready, and others are not there yet")
    return Waiting(cause=f"its pod {pod} runs and is not ready: {_in_short(last_words(pods, newest).lines)}")


def _account_of_newest(pods: Pods, selector: str) -> list[str]:
    newest = _newest_not_ready(pods, selector)
    return account(pods, newest) if newest else []


def _unmet(conditions: Iterable[dict[str, Any]]) -> list[str]:
    """The conditions of a service that do not hold, a line each."""
    unmet = [item for item in conditions if item.get("status") != "True" and item["type"] not in USUALLY_FALSE]
    told = (f"condition {item['type']} is {item.get('status')}: {reason_given(item)}" for item in unmet)
    return [" ".join(last_lines(line)) for line in told]


def _in_short(lines: Sequence[str]) -> str:
    return " | ".join(lines[-3:])
