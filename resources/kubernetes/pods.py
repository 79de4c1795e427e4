"""What this project asks of the Kubernetes API about Jobs and their pods. Objects are dicts, as JSON has them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.foreign_text import last_lines
from resources.kubernetes.api import LOG_WITHIN_S, api_client, created, log_client, reason_of
from resources.kubernetes.labels import COMPONENT, RUN_ID, STEP_WORKER
from resources.kubernetes.pod_objects import holds
from resources.kubernetes.queueing import JOB_UID

LOG_LINES = 30
NO_LOG = "(no log: "  # before the reason why it cannot be read


class Pods:
    """Jobs and pods of one namespace."""

    def __init__(self, namespace: str) -> None:
        from kubernetes import client as untyped

        client: Any = untyped
        self.namespace = namespace
        connection = api_client()
        self.core, self._batch = client.CoreV1Api(connection), client.BatchV1Api(connection)
        self._logs = client.CoreV1Api(log_client())
        self._apps, self._custom = client.AppsV1Api(connection), client.CustomObjectsApi(connection)
        self._training_jobs = ("kubeflow.org", "v1", namespace, "pytorchjobs")
        self._plain = connection.sanitize_for_serialization

    def job(self, name: str) -> dict[str, Any] | None:
        """A Job, or None when there is none."""
        return self._or_none(lambda: self._batch.read_namespaced_job(name, self.namespace))

    def pod(self, name: str) -> dict[str, Any]:
        """A pod that is there."""
        return self._plain(self.core.read_namespaced_pod(name, self.namespace))

    def matching(self, selector: str) -> list[dict[str, Any]]:
        """The pods that a label selector finds."""
        return self._plain(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def of_job(self, name: str) -> dict[str, Any] | None:
        """The newest pod of a Job."""
        return self.newest(f"job-name={name}")

    def newest(self, selector: str) -> dict[str, Any] | None:
        """The newest pod that a label selector finds."""
        return max(self.matching(selector), key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events about an object, oldest first."""
        found = self.core.list_namespaced_event(self.namespace, field_selector=f"involvedObject.name={name}").items
        plain: list[dict[str, Any]] = [self._plain(event) for event in found]
        return sorted(plain, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    def rolled_out(self, deployment: str, annotation: tuple[str, str | None]) -> bool:
        """Whether a Deployment whose pods are to have this annotation has them, all available, and no others."""
        found = self._or_none(lambda: self._apps.read_namespaced_deployment(deployment, self.namespace))
        if found is None:
            return False
        name, value = annotation
        if found["spec"]["template"]["metadata"].get("annotations", {}).get(name) != value:
            return False
        wanted, status = found["spec"].get("replicas", 1), found.get("status", {})
        seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        return seen and counts == [wanted] * 3

    def log(self, pod: str, previous: bool = False, container: str | None = None) -> str:
        """The last lines a pod has written (before its last restart) as plain text, or why they cannot be read."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        options: dict[str, Any] = {"tail_lines": LOG_LINES, "previous": previous, "_request_timeout": LOG_WITHIN_S}
        if container:
            options["container"] = container
        try:
            # Unread, for the client itself makes of bytes how Python writes them: b'...', without lines
            answer = self._logs.read_namespaced_pod_log(pod, self.namespace, **options, _preload_content=False)
            text: str = answer.data.decode(errors="replace")
        except ApiException as error:
            return f"{NO_LOG}{reason_of(error)})"
        except HTTPError as error:
            return f"{NO_LOG}{error})"
        return "\n".join(last_lines(text, LOG_LINES))

    def node_is_ready(self, node: str | None) -> bool:
        """Whether a node is there and tells that it is ready; true for a pod that has no node yet."""
        if node is None:
            return True
        found = self._or_none(lambda: self.core.read_node(node))
        return found is not None and holds(found, "Ready")

    def node_claims(self) -> list[dict[str, Any]]:
        """Karpenter's NodeClaims; none where there is no Karpenter or no right to look."""
        return self._of_karpenter("nodeclaims") or []

    def node_pools(self) -> list[dict[str, Any]] | None:
        """Karpenter's NodePools; None where there is no Karpenter or no right to look."""
        return self._of_karpenter("nodepools")

    def training_job(self, name: str) -> dict[str, Any] | None:
        """A PyTorchJob, or None when there is none."""
        return self._or_none(lambda: self._custom.get_namespaced_custom_object(*self._training_jobs, name))

    def workload(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """The Workload that Kueue has made of a PyTorchJob, or None before that."""
        kind = ("kueue.x-k8s.io", "v1beta2", self.namespace, "workloads")
        selector = f"{JOB_UID}={job['metadata']['uid']}"
        found = self._or_none(lambda: self._custom.list_namespaced_custom_object(*kind, label_selector=selector))
        return next(iter((found or {}).get("items", [])), None)

    def create_training_job(self, manifest: dict[str, Any]) -> None:
        """Create a PyTorchJob.

        Raises:
            TrainingError: the cluster does not take it.
        """
        from kubernetes.client import ApiException

        try:
            created(
                lambda: self._custom.create_namespaced_custom_object(*self._training_jobs, manifest),
                lambda: self.training_job(manifest["metadata"]["name"]),
            )
        except ApiException as error:
            cause = "it knows no PyTorchJob" if error.status == 404 else f"it refuses the PyTorchJob: {error.body}"
            raise TrainingError(
                f"several workers need the Kubeflow Training Operator in the cluster, and {cause}",
                where="train.compute.workers",
                remedy="install it (docs/production.md, Charts), or set workers to 1",
            ) from error

    def delete_training_jobs(self, selector: str) -> None:
        """Delete PyTorchJobs with their pods."""
        listed = self._custom.list_namespaced_custom_object
        found = self._or_none(lambda: listed(*self._training_jobs, label_selector=selector))
        for job in (found or {}).get("items", []):
            name = job["metadata"]["name"]
            self._or_none(lambda name=name: self._custom.delete_namespaced_custom_object(*self._training_jobs, name))

    def age_s(self, item: dict[str, Any]) -> float:
        """Seconds since an object was created."""
        created = datetime.fromisoformat(item["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
        return (datetime.now(UTC) - created).total_seconds()

    def delete_job(self, name: str, wait_s: float = 0) -> None:
        """Delete a Job, if it is there, and wait until its pods have gone too."""
        deadline = time.monotonic() + wait_s
        # In the foreground the Job stays until its last pod has gone
        propagation = "Foreground" if wait_s else "Background"
        self._or_none(lambda: self._batch.delete_namespaced_job(name, self.namespace, propagation_policy=propagation))
        while time.monotonic() < deadline and self.job(name) is not None:
            time.sleep(0.5)

    def forget_pod(self, name: str) -> None:
        """Remove a pod from the API although its kubelet does not say that it has ended."""
        self._or_none(lambda: self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0))

    def jobs(self, *components: str, run_id: str | None = None) -> list[dict[str, Any]]:
        """The Jobs that Dagster has made, of one run or of all."""
        selector = f"{COMPONENT} in ({', '.join(components)})" + (f",{RUN_ID}={run_id}" if run_id else "")
        return self._plain(self._batch.list_namespaced_job(self.namespace, label_selector=selector).items)

    def delete_steps(self, run_id: str) -> list[str]:
        """Delete the step Jobs of a run, and give their names."""
        names: list[str] = [job["metadata"]["name"] for job in self.jobs(STEP_WORKER, run_id=run_id)]
        for name in names:
            self.delete_job(name)
        return names

    def _of_karpenter(self, kind: str) -> list[dict[str, Any]] | None:
        from kubernetes.client import ApiException

        try:
            return self._custom.list_cluster_custom_object("karpenter.sh", "v1", kind)["items"]
        except ApiException:
            return None

    def _or_none(self, ask: Any) -> Any:
        from kubernetes.client import ApiException

        try:
            return self._plain(ask())
        except ApiException as error:
            if error.status == 404:
                return None
            raise
