"""The executor of a cluster: dagster-k8s's, one pod a step, which also tells why a pod waits and why one died.

Retries have one owner, this executor: a step's Job never makes a second pod. There are two budgets, told apart by the
pod's DisruptionTarget condition and exit code: interruptions (many) and crashes (few). The last try after interruptions
asks for an on-demand node.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

import dagster as dg
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from resources.environment import cluster_prefix
from resources.kubernetes.api import dagster_apis, in_cluster, reason_of
from resources.kubernetes.compute import PodPolicy
from resources.kubernetes.dagster_internals import (
    USER_DEFINED_K8S_JOB_CONFIG_SCHEMA,
    CheckStepHealthResult,
    DagsterK8sAPIRetryLimitExceeded,
    DagsterK8sUnrecoverableAPIError,
    EngineEventData,
    K8sContainerContext,
    K8sStepHandler,
    RetryMode,
    SerializableErrorInfo,
    StepDelegatingExecutor,
    StepFailureData,
    StepHandlerContext,
    StepRetryData,
    UserFailureData,
    container_context,
    get_job_name_from_run_id,
)
from resources.kubernetes.labels import CAPACITY_TYPE, POD_POLICY, PRIORITY_OF_STEPS, RUN_WORKER
from resources.kubernetes.pod_deaths import Death, death, lost_with_node, no_room
from resources.kubernetes.pod_objects import ended, event_line, holds, job_ended, overdue, seconds_since, started
from resources.kubernetes.pod_waits import Waiting, waiting
from resources.kubernetes.pods import Pods
from resources.kubernetes.priority import with_prefix
from resources.kubernetes.run_models import pod_environment
from resources.kubernetes.step_image import image_config

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

LOOK_EVERY_S = 2
SILENT_S = 30
GONE_WITHIN_S = 60
EXIT_AWAY = 75  # EX_TEMPFAIL of sysexits.h
INTERRUPTED, CRASHED = "PodInterrupted", "PodCrashed"

STEP_POD: dict[str, Any] = {
    # Dagster's own process, with SIGTERM kept from it
    "container_config": {"command": ["python", "-m", "resources.kubernetes.step_pod"]},
    # The rest is what run pods have
    "pod_spec_config": {"priority_class_name": PRIORITY_OF_STEPS},
    "job_spec_config": {
        "backoff_limit": 0,
        # The Job remembers that its pod was disrupted, also when the pod has gone with its node
        "pod_failure_policy": {
            "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
    },
}


@dg.executor(
    name="kubernetes",
    config_schema={
        "max_concurrent": dg.Field(int, is_required=False, description="Steps of one run at a time"),
        "step_k8s_config": dg.Field(
            USER_DEFINED_K8S_JOB_CONFIG_SCHEMA,
            is_required=False,
            description="Of this run's step pods; assets override",
        ),
    },
    requirements=dg.multiple_process_executor_requirements(),
)
def pod_executor(init_context: dg.InitExecutorContext) -> PodExecutor:
    """One pod for each step, made as the asset's `op_tags` say."""
    config: Any = init_context.executor_config
    return PodExecutor(config.get("max_concurrent"), config.get("step_k8s_config", {}))


class PodStepHandler(K8sStepHandler):
    """Starts and watches step pods."""

    def __init__(self, step_k8s_config: dict[str, Any]) -> None:
        in_cluster()
        super().__init__(
            image=None,
            container_context=container_context(with_prefix(STEP_POD, cluster_prefix())).merge(
                container_context(step_k8s_config)
            ),
            load_incluster_config=True,
            kubeconfig_file=None,
            **dagster_apis(),
            # Steps outlive the run's pod: the run that resumes goes on with them. What is left of a run that does not
            # resume the janitor deletes.
            enable_owner_references=False,
        )
        self.ends: dict[str, Death | Waiting] = {}
        self._refused: dict[str, Waiting] = {}
        self.details: dict[str, dict[str, str]] = {}
        self._explained: dict[str, str] = {}
        self._last: dict[str, dict[str, Any]] = {}

    def policy(self, context: StepHandlerContext) -> PodPolicy:
        """What the asset says about its pod beyond Kubernetes' own fields."""
        return policy_of(context.step_tags[self._get_step_key(context)])

    def _get_container_context(self, step_handler_context: StepHandlerContext) -> K8sContainerContext:
        context = super()._get_container_context(step_handler_context)
        policy = self.policy(step_handler_context)
        context = context.merge(container_context(pod_environment(step_handler_context.dagster_run)))
        context = context.merge(container_context(image_config(policy)))
        step_key = self._get_step_key(step_handler_context)
        interruptions = past_deaths(step_handler_context.instance, step_handler_context.dagster_run.run_id, step_key)
        if interruptions[INTERRUPTED] < max(1, policy.retries.infrastructure):
            return context
        on_demand = {"pod_spec_config": {"node_selector": {CAPACITY_TYPE: "on-demand"}}}
        return context.merge(container_context(on_demand))

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        step_key = self._get_step_key(step_handler_context)
        job_name = self._get_k8s_step_job_name(step_handler_context)
        pods = self._pods(step_handler_context)
        try:
            make_way_for_newer_worker(pods, step_handler_context.dagster_run.run_id)
            job = pods.job(job_name)
            if job is not None and not job_ended(job):
                return  # another worker of this run has started it, and ended before it could say so
            # A run that resumes starts an attempt again that died while nobody looked
            if job is not None:
                pods.delete_job(job_name, wait_s=GONE_WITHIN_S)
            yield from super().launch_step(step_handler_context)
        except DagsterK8sUnrecoverableAPIError as error:
            # This step's end; raised, it would be that of all steps that run
            self._refused[step_key] = _refusal(error.k8s_api_exception)
        except (HTTPError, DagsterK8sAPIRetryLimitExceeded) as error:
            end_until_back("The Kubernetes API", error)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        step_key = self._get_step_key(step_handler_context)
        refused = self._refused.pop(step_key, None)
        if refused is not None:
            return self._ended(step_key, refused)
        job_name = self._get_k8s_step_job_name(step_handler_context)
        pods = self._pods(step_handler_context)
        make_way_for_newer_worker(pods, step_handler_context.dagster_run.run_id)
        job = pods.job(job_name)
        found = pods.of_job(job_name)
        if found is not None:
            self._last[job_name] = found
        failed = job is None or holds(job, "Failed")
        # A pod that goes with its node is soon gone; what it looked like last tells why
        pod = self._last.get(job_name)
        if found is not None:
            self._remember(step_key, pods, found)
        if failed or _silent(pod):
            return self._ended(step_key, death(job, pod, gone=found is None))
        if found is not None and overdue(found):
            pods.forget_pod(found["metadata"]["name"])
            return self._ended(step_key, lost_with_node(found))
        if job is not None and (pod is None or not started(pod)):
            return self._check_waiting(step_handler_context, pods, job, pod)
        return CheckStepHealthResult.healthy()

    def _pods(self, context: StepHandlerContext) -> Pods:
        return Pods(str(super()._get_container_context(context).namespace))

    def _check_waiting(
        self, context: StepHandlerContext, pods: Pods, job: dict[str, Any], pod: dict[str, Any] | None
    ) -> CheckStepHealthResult:
        step_key = self._get_step_key(context)
        policy = self.policy(context)
        start_within_s = policy.start_within.total_seconds()
        job_events = [] if pod else pods.events(job["metadata"]["name"])
        pod_events = pods.events(pod["metadata"]["name"]) if pod else []
        found = waiting(policy.needs, job_events, pod, pod_events, pods.node_claims(), pods.node_pools())
        waited = pods.age_s(job)
        if found.final or waited > start_within_s:
            pods.delete_job(job["metadata"]["name"])
            in_vain = found.for_capacity and not found.final
            return self._ended(step_key, no_room(found, waited) if in_vain else found)
        if self._explained.get(step_key) != found.topic:
            self._explained[step_key] = found.topic
            text = found.text(waited, start_within_s)
            dg.DagsterEvent.engine_event(context.get_step_context(step_key), text, EngineEventData())
        return CheckStepHealthResult.healthy()

    def _remember(self, step_key: str, pods: Pods, pod: dict[str, Any]) -> None:
        """Keep what will be asked for when the pod has gone, which a drained node does within seconds."""
        details = self.details.setdefault(step_key, {})
        details |= {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName", "")}
        if "deletionTimestamp" in pod["metadata"] or ended(pod):
            details["events"] = "\n".join(event_line(event) for event in pods.events(pod["metadata"]["name"])[-8:])
            details["last log lines"] = pods.log(pod["metadata"]["name"])

    def _ended(self, step_key: str, end: Death | Waiting) -> CheckStepHealthResult:
        self.ends[step_key] = end
        return CheckStepHealthResult.unhealthy(reason=end.advice)


class PodExecutor(StepDelegatingExecutor):
    """Decides by what killed a pod whether its step starts again."""

    def __init__(self, max_concurrent: int | None, step_k8s_config: dict[str, Any]) -> None:
        self.handler = PodStepHandler(step_k8s_config)
        super().__init__(
            self.handler,
            retries=RetryMode.ENABLED,
            check_step_health_interval_seconds=LOOK_EVERY_S,
            max_concurrent=max_concurrent,
            # Dagster's check against pods that a Job makes anew would refuse the steps of a run that resumes. Jobs make
            # none here: no back-off, and with a failure policy no replacement before the pod has failed.
            should_verify_step=False,
        )

    def execute(self, plan_context: Any, execution_plan: Any) -> Generator[dg.DagsterEvent]:
        """Execute a run. One that is cancelled ends its steps; one whose pod is told to go leaves them to the next."""
        from dagster_postgres.utils import DagsterPostgresException
        from sqlalchemy.exc import DBAPIError

        try:
            yield from super().execute(plan_context, execution_plan)
            run = plan_context.instance.get_run_by_id(plan_context.run_id)
            if run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED):
                Pods(in_cluster()).delete_steps(run.run_id)
        except (DagsterPostgresException, DBAPIError) as error:
            end_until_back("The database of Dagster", error)

    def log_failure_or_retry_event_after_error(
        self, step_context: Any, err_info: SerializableErrorInfo, known_state: Any
    ) -> dg.DagsterEvent:
        step_key = step_context.step.key
        end = self.handler.ends.pop(step_key, None)
        details = self.handler.details.pop(step_key, {})
        policy = policy_of(step_context.step.tags)
        message = err_info.message
        if isinstance(end, Death):
            past = past_deaths(step_context.instance, step_context.run_id, step_key)
            name = INTERRUPTED if end.budget == "infrastructure" else CRASHED
            used, allowed = past[name] + 1, getattr(policy.retries, end.budget)
            count = f"{end.budget} failure {used} of {allowed} that are retried"
            where = f"Pod {end.pod or details.get('pod', '?')} on node {end.node or details.get('node', '?')}"
            message = f"{where}: {end.cause} ({count}). {end.remedy}".rstrip()
            error = SerializableErrorInfo(message=message, stack=[], cls_name=name)
            if used <= allowed:
                return dg.DagsterEvent.step_retry_event(step_context, StepRetryData(error=error, seconds_to_wait=None))
            details = {"exit code": str(end.exit_code), **details}
        elif isinstance(end, Waiting):
            message = f"The pod of {step_key} did not start: {end.advice}"
        error = SerializableErrorInfo(message=message, stack=[], cls_name=err_info.cls_name)
        metadata = {name: dg.MetadataValue.text(text) for name, text in details.items() if text}
        failure = UserFailureData(label="pod", description=message, metadata=metadata)
        return dg.DagsterEvent.step_failure_event(step_context, StepFailureData(error=error, user_failure_data=failure))


def make_way_for_newer_worker(pods: Pods, run_id: str) -> None:
    """End this process when run monitoring has started another worker for the run, as when this one's node was silent.

    Two would count each death of a step twice, and one of them would end the steps of the other.
    """
    base = get_job_name_from_run_id(run_id)
    mine = re.fullmatch(rf"{base}(?:-(\d+))?-[a-z0-9]+", os.uname().nodename)
    if mine is None:
        return  # this is no worker of run monitoring's
    attempts = [
        int(job["metadata"]["name"].removeprefix(base).strip("-") or 0) for job in pods.jobs(RUN_WORKER, run_id=run_id)
    ]
    if max(attempts, default=0) > int(mine[1] or 0):
        print("Another worker goes on with this run", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(0)


def end_until_back(what: str, error: Exception) -> NoReturn:
    """End this process, so that run monitoring starts another when what is away is back; the steps go on meanwhile.

    Recorded as an exception, the same would fail the run and end its steps.
    """
    print(f"{what} is away: {error}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_AWAY)


def _refusal(error: Exception) -> Waiting:
    """What the API server says when it does not take a step's Job."""
    said = reason_of(error) if isinstance(error, ApiException) else str(error)
    remedy = "Correct what it names in k8s/, apply that, and run again"
    if "exceeded quota" in said:
        remedy = "Delete Jobs that have ended, or raise the ResourceQuota, and run again"
    return Waiting(cause=f"Kubernetes refuses its Job: {said}", remedy=remedy, final=True)


def _silent(pod: dict[str, Any] | None) -> bool:
    """Whether the process ended well some time ago, although the step's end is not in the event log."""
    for container in (pod or {}).get("status", {}).get("containerStatuses", []):
        state = container.get("state", {}).get("terminated")
        if state and state.get("exitCode") == 0 and state.get("finishedAt"):
            return seconds_since(state["finishedAt"]) > SILENT_S
    return False


def policy_of(tags: Any) -> PodPolicy:
    """The policy that stands on the asset, or the default for other assets."""
    return PodPolicy.model_validate_json(tags.get(POD_POLICY, "{}"))


def past_deaths(instance: dg.DagsterInstance, run_id: str, step_key: str) -> Counter[str]:
    """How often a step was interrupted and how often it crashed; from the event log, so that a resumed run knows."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    found: Counter[str] = Counter()
    for event in events:
        if event.dagster_event is not None and event.dagster_event.step_key == step_key:
            error = event.dagster_event.step_retry_data.error
            found[(error.cls_name if error else None) or ""] += 1
    return found
