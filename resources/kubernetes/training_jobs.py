"""Training by several pods: a PyTorchJob that a step starts, explains while it waits, follows, and deletes."""

from __future__ import annotations

import os
import threading
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.ml.errors import TrainingError
from resources.kubernetes.api import in_cluster, is_away
from resources.kubernetes.labels import COMPONENT, MODEL, OP, OWNER, RUN_ID, STAGE, TRAINING_WORKER
from resources.kubernetes.pod_deaths import Death, death, lost_with_node, no_room
from resources.kubernetes.pod_objects import ended, holds, started
from resources.kubernetes.pod_waits import Waiting, waiting
from resources.kubernetes.pods import Pods
from resources.kubernetes.queueing import in_queue, is_queued
from resources.kubernetes.step_pod import EXIT_TERMINATED, exit_now
from resources.kubernetes.training_manifest import OF_ONE_STEP, WorkerPods, training_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resources.kubernetes.training_worker import TrainingOrder

LOOK_EVERY_S = 2
SETTLE_S = 15  # one lost worker takes the others with it; what killed the first decides


class TrainingJobs(dg.ConfigurableResource[Any]):
    """Starts PyTorchJobs from a step pod, where there is a cluster; by a queue of Kueue where it names one."""

    available: bool
    queue: str | None = None

    def train(
        self,
        context: dg.AssetExecutionContext,
        order: TrainingOrder,
        workers: WorkerPods,
        stop_requested: Callable[[], bool],
    ) -> None:
        """Train to the end; the result is then the newest checkpoint.

        When workers are lost, or this step is asked to stop, this process ends as such a pod does, so that the executor
        retries it as it retries others.

        Raises:
            TrainingError: the training cannot start, or a worker says what is wrong.
        """
        from dagster_k8s import PipesK8sPodLogsMessageReader

        pods = Pods(in_cluster())
        reader = PipesK8sPodLogsMessageReader()
        extras = order.model_dump(mode="json")
        with dg.open_pipes_session(context, dg.PipesEnvContextInjector(), reader, extras=extras) as session:
            job = _Job(context, pods, reader, workers, self.queue)
            try:
                try:
                    job.start(session.get_bootstrap_env_vars())
                    code = job.follow(stop_requested)
                finally:
                    job.delete()
            except Exception as error:
                if not is_away(error):
                    raise
                # What is left of the workers goes with this pod, and the next try begins from their last checkpoint
                context.log.warning(f"The API server is away, and the workers cannot be followed: {error}")
                code = EXIT_TERMINATED
            errors = [message["error"] for message in session.get_custom_messages()]
        if errors and code not in (0, EXIT_TERMINATED):
            raise TrainingError(errors[0])
        if code:
            exit_now(code)


class _Job:
    """One PyTorchJob."""

    def __init__(
        self, context: dg.AssetExecutionContext, pods: Pods, reader: Any, workers: WorkerPods, queue: str | None
    ) -> None:
        self.context, self.pods, self.reader, self.workers, self.queue = context, pods, reader, workers, queue
        self.me = pods.pod(os.uname().nodename)
        labels: dict[str, str] = self.me["metadata"]["labels"]
        self.name = labels["job-name"]
        self.labels = {key: labels[key] for key in (RUN_ID, OP, MODEL, STAGE, OWNER)} | {COMPONENT: TRAINING_WORKER}
        self.seen: dict[str, dict[str, Any]] = {}
        self.created = time.monotonic()
        self.explained = ""
        self.logs: threading.Thread | None = None

    @property
    def selector(self) -> str:
        """Finds the pods and PyTorchJobs of this step, those of earlier tries too."""
        return ",".join(f"{key}={self.labels[key]}" for key in OF_ONE_STEP)

    def start(self, variables: Mapping[str, str]) -> None:
        """Create the PyTorchJob, when no worker of an earlier try is left that might write checkpoints."""
        self.delete()
        manifest = training_job(self.name, self.labels, self.me, self.workers, self.queue, variables)
        self.pods.create_training_job(manifest)
        self.created = time.monotonic()
        self.context.log.info(f"PyTorchJob {self.name} trains with {self.workers.count} workers")

    def follow(self, stop_requested: Callable[[], bool]) -> int:
        """The exit code with which this step ends, once all workers have ended or one is lost."""
        while True:
            if stop_requested():
                self.context.log.info("asked to stop; the workers write a checkpoint")
                return EXIT_TERMINATED
            job = self.pods.training_job(self.name)
            now = self._look()
            if job is not None and holds(job, "Succeeded"):
                if self.logs:
                    self.logs.join()
                return 0
            if job is None or holds(job, "Failed") or self._lost(now):
                return self._diagnose(job)
            waits = len(now) < self.workers.count or not all(map(started, now.values()))
            if waits and not self._may_wait(job, now):
                return EXIT_TERMINATED
            time.sleep(LOOK_EVERY_S)

    def delete(self) -> None:
        """Delete PyTorchJobs of this step, and wait until their pods have had the time to write a checkpoint."""
        deadline = time.monotonic() + self.workers.grace_s + SETTLE_S
        self.pods.delete_training_jobs(self.selector)
        while self.pods.matching(self.selector) and time.monotonic() < deadline:
            time.sleep(1)

    def _look(self) -> dict[str, dict[str, Any]]:
        now = {pod["metadata"]["name"]: pod for pod in self.pods.matching(self.selector)}
        self.seen |= now
        master = now.get(f"{self.name}-master-0")
        if master and self.logs is None and started(master):
            arguments = (self.context, self.pods.core, master["metadata"]["name"], self.pods.namespace)
            self.logs = threading.Thread(target=self.reader.consume_pod_logs, args=arguments, daemon=True)
            self.logs.start()
        return now

    def _lost(self, now: dict[str, dict[str, Any]]) -> bool:
        return bool(self.seen.keys() - now.keys()) or any(
            pod.get("status", {}).get("phase") == "Failed" for pod in now.values()
        )

    def _diagnose(self, job: dict[str, Any] | None) -> int:
        deadline = time.monotonic() + SETTLE_S
        now = self._look()
        while any(not ended(pod) for pod in now.values()) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
            now = self._look()
        # Kubernetes calls a worker running for minutes after its node was lost; the others fail when it does not answer
        running = [pod for pod in now.values() if not ended(pod)]
        silent = [pod for pod in running if not self.pods.node_is_ready(pod["spec"].get("nodeName"))]
        seen = [(pod, name not in now) for name, pod in self.seen.items()]
        # A pod that is being deleted counts before it has ended, which may take as long as its grace period
        taken_away = [(pod, gone) for pod, gone in seen if gone or "deletionTimestamp" in pod["metadata"]]
        others = [item for item in seen if ended(item[0]) and item not in taken_away]
        # The others end because one does. Of equal ranks the first counts: a pod that was taken away
        deaths = [*map(lost_with_node, silent), *(death(job, pod, gone) for pod, gone in [*taken_away, *others])]
        if not deaths:
            self.context.log.warning(f"PyTorchJob {self.name} was deleted, or failed before it had pods")
            return EXIT_TERMINATED
        first = min(deaths, key=_rank)
        self.context.log.warning(f"worker {first.pod} on node {first.node or '?'}: {first.advice}")
        return EXIT_TERMINATED if first.budget == "infrastructure" else 1

    def _may_wait(self, job: dict[str, Any], now: dict[str, dict[str, Any]]) -> bool:
        """Say what the workers wait for, once; false when they have waited for room in vain, and may try again later.

        Raises:
            TrainingError: what they wait for does not come, or has not come in time.
        """
        waits = next((pod for pod in now.values() if not started(pod)), None)
        # A worker waits in its init container until the master's name can be resolved
        if waits and waits["metadata"]["name"] != f"{self.name}-master-0" and _scheduled(waits):
            waits = now.get(f"{self.name}-master-0", waits)
            if started(waits):
                return True
        found = in_queue(job, self.pods.workload(job)) if is_queued(job) else self._awaited(job, waits)
        waited = time.monotonic() - self.created
        in_vain = waited > self.workers.start_within_s
        if in_vain and found.for_capacity and not found.final:
            self.context.log.warning(f"The workers did not start: {no_room(found, waited).advice}")
            return False
        if found.final or in_vain:
            raise TrainingError(f"The workers did not start: {found.cause}", remedy=found.remedy)
        if found.topic != self.explained:
            self.explained = found.topic
            self.context.log.info(found.text(waited, self.workers.start_within_s))
        return True

    def _awaited(self, job: dict[str, Any], pod: dict[str, Any] | None) -> Waiting:
        """What the first pod that has not started waits for, or the job that has not all pods."""
        events = self.pods.events((pod or job)["metadata"]["name"])
        nodes = self.pods.node_claims(), self.pods.node_pools()
        return waiting(self.workers.needs, [] if pod else events, pod, events if pod else [], *nodes)


class _Rank(IntEnum):
    """How well the end of a worker explains why the training ended, best first."""

    KILLED = 0
    STOPPED_ON_REQUEST = 1
    CRASHED = 2


def _rank(end: Death) -> _Rank:
    if end.budget == "code":
        return _Rank.CRASHED
    return _Rank.STOPPED_ON_REQUEST if end.exit_code == EXIT_TERMINATED else _Rank.KILLED


def _scheduled(pod: dict[str, Any]) -> bool:
    return bool(pod["spec"].get("nodeName"))
