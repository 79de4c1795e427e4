"""The run launcher of a cluster: dagster-k8s's, which takes a run's worker for dead only when it sees that it is.

To dagster-k8s any error of a look is a worker in an unknown state, and run monitoring resumes such a run beside its
healthy worker, or fails it for good (dagster.daemon's monitor_started_run). An API server that is away for a moment, as
when EKS upgrades it, would so end every run that is looked at.
"""

import logging
from typing import Any

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from resources.environment import cluster_prefix
from resources.kubernetes.api import dagster_apis
from resources.kubernetes.dagster_internals import (
    CheckRunHealthResult,
    DagsterK8sAPIRetryLimitExceeded,
    DagsterKubernetesClient,
    K8sContainerContext,
    K8sRunLauncher,
    ResumeRunContext,
    WorkerStatus,
    container_context,
    get_job_name_from_run_id,
)
from resources.kubernetes.labels import RUN_WORKER
from resources.kubernetes.pod_deaths import death, lost_with_node
from resources.kubernetes.pod_objects import job_ended, overdue
from resources.kubernetes.pods import Pods
from resources.kubernetes.priority import with_prefix
from resources.kubernetes.run_models import pod_environment

log = logging.getLogger(__name__)


class RunLauncher(K8sRunLauncher):
    """Starts a run's worker in a Job, watches it, and starts another one when it has died."""

    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        self._run_k8s_config = with_prefix(self._run_k8s_config, cluster_prefix())
        # Not before, for this process is told there where its API server is
        apis = dagster_apis()
        self._api_client = DagsterKubernetesClient.production_client(
            batch_api_override=apis["k8s_client_batch_api"], core_api_override=apis["k8s_client_core_api"]
        )

    def check_run_worker_health(self, run: Any) -> CheckRunHealthResult:
        """`RUNNING` unless the run's newest worker is seen to have ended, or to hang on a node that does not answer."""
        name = get_job_name_from_run_id(run.run_id, resume_attempt_number=self._get_resume_attempt_number(run))
        pods = self._pods(run)
        try:
            job, pod = pods.job(name), pods.of_job(name)
        except (ApiException, HTTPError) as error:
            log.warning("The worker of run %s cannot be seen, and is taken to run: %s", run.run_id, error)
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"not seen: {error}")
        if job is None:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, f"there is no Job {name}")
        if pod is not None and overdue(pod):
            return CheckRunHealthResult(WorkerStatus.FAILED, lost_with_node(pod).advice)
        if job_ended(job):
            return CheckRunHealthResult(WorkerStatus.FAILED, death(job, pod, gone=pod is None).advice)
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def get_container_context_for_run(self, dagster_run: Any) -> K8sContainerContext:
        """The pod of a run's worker, which loads the models of the run alone."""
        context = super().get_container_context_for_run(dagster_run)
        return context.merge(container_context(pod_environment(dagster_run)))

    def resume_run(self, context: ResumeRunContext) -> None:
        """Start another worker, and end those before it that hang."""
        run = context.dagster_run
        try:
            pods = self._pods(run)
            for job in pods.jobs(RUN_WORKER, run_id=run.run_id):
                if not job_ended(job):
                    pods.delete_job(job["metadata"]["name"])
            super().resume_run(context)
        except (ApiException, HTTPError, DagsterK8sAPIRetryLimitExceeded) as error:
            # Raised, it would fail the run for good; run monitoring finds no such worker at its next look
            self._instance.report_engine_event(f"The run's next worker cannot be started yet: {error}", run)

    def _pods(self, run: Any) -> Pods:
        return Pods(str(self.get_container_context_for_run(run).namespace))
