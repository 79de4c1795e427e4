"""Why a pod does not start, or why it died, in words: from the objects Kubernetes keeps about it.

All objects are dicts as the API gives them in JSON. Nothing here talks to a cluster.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

from mlops_assets.ml.values import Value
from resources.kubernetes.labels import CAPACITY_TYPE, INSTANCE_TYPE, POOL

Objects = list[dict[str, Any]]

# How long an error may last, from when it was first met, before it is final: each may be met in a healthy start.
UNKNOWN_NODE_S = 60
IMAGE_S = 45
CONFIG_S = 20
ADMISSION_S = 20
# Kubelet tries again by itself what may have been the network, the registry or a driver that was not up yet
START_TRIES, START_S = 3, 60
# What registries and containerd say of an image that another try does not bring
NO_SUCH_IMAGE = re.compile(
    r"not ?found|manifest unknown|denied|unauthorized|forbidden|authorization failed|invalid reference format"
    r"|no match for platform|never pull",
    re.IGNORECASE,
)
# Karpenter's words for what is used up for now, after which it tries again: an instance type in a zone, spot or on
# demand, which the cloud has none of, also where the other workers of a training are; and a NodePool's limit
OFFERING = re.compile("offering|filtered out all available instance types|unsatisfiable topology", re.IGNORECASE)
LIMIT = re.compile("limits|exceed", re.IGNORECASE)
# Of a NodePool whose instance types are all used up it says nothing at all. What is left are those for other pods: one
# refusal of each, in which further keys begin with "key"
REFUSALS = re.compile(r"; (?!key |label )")
FOR_OTHERS = re.compile(rf"did not tolerate taint|key {re.escape(POOL)},")
KILLED, TERMINATED = 137, 143
# A kubelet ends a pod within its grace period; one that has not this long after it is hung, or cut off
OVERDUE_S = 30
# Kubelet's reasons not to take a pod that the scheduler has bound to it: OutOfcpu, OutOfnvidia.com/gpu, ...
REFUSED_BY_NODE = ("OutOf", "UnexpectedAdmissionError", "NodeAffinity", "NodeShutdown", "Preempting")


class Diagnosis(Value):
    """What is wrong with a pod, and what to do."""

    cause: str
    remedy: str = ""

    @property
    def advice(self) -> str:
        """Cause and remedy, a sentence each."""
        return f"{self.cause}. {self.remedy}".rstrip()


class Waiting(Diagnosis):
    """A pod that has not started. `about` stands for a cause whose words change from look to look.

    `for_capacity` tells a wait for room in the cluster: a step that has waited in vain may try again later.
    """

    final: bool = False
    about: str = ""
    for_capacity: bool = False

    @property
    def topic(self) -> str:
        """What is told once, until there is something else to tell."""
        return self.about or self.cause

    def text(self, waited_s: float, limit_s: float) -> str:
        """One line for the run's log."""
        remedy = f". {self.remedy}" if self.remedy else ""
        return f"{self.cause}, {waited_s:.0f} s of at most {limit_s:.0f} s{remedy}"


class Death(Diagnosis):
    """How a pod ended, or that it found no room in time, and whose budget that costs."""

    budget: Literal["infrastructure", "code"]
    pod: str = ""
    node: str = ""
    exit_code: int | None = None


def waiting(
    needs: str,
    job_events: Objects,
    pod: dict[str, Any] | None,
    pod_events: Objects,
    claims: Objects,
    pools: Objects | None = None,
) -> Waiting:
    """What a step waits for that asked for `needs`.

    `claims` and `pools` are Karpenter's NodeClaims and NodePools; None where the pools may not be looked at.
    """
    if pod is None:
        return _not_created(job_events)
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "True":
        return _not_scheduled(needs, pod, scheduled, pod_events, claims, pools)
    return _not_running(pod, pod_events, claims)


def _not_created(events: Objects) -> Waiting:
    # FailedCreatePod is the Training Operator's
    failed = _latest(events, "FailedCreate") or _latest(events, "FailedCreatePod")
    if failed is None:
        return Waiting(cause="waiting for Kubernetes to create the pod")
    message: str = failed["message"]
    if "exceeded quota" in message:
        return Waiting(
            cause=f"waiting for quota: {message}",
            remedy="Wait until other runs end, ask for less in the YAML's compute, or raise the ResourceQuota",
            for_capacity=True,
        )
    final = _age(failed) >= ADMISSION_S
    remedy = "Correct what it names in k8s/, apply that, and run again"
    return Waiting(cause=f"Kubernetes refuses the pod: {message}", remedy=remedy, final=final)


def _not_scheduled(
    needs: str,
    pod: dict[str, Any],
    scheduled: dict[str, Any],
    events: Objects,
    claims: Objects,
    pools: Objects | None,
) -> Waiting:
    nominated = _latest(events, "Nominated")
    refused = _latest(events, "FailedScheduling", "karpenter")
    if nominated and (refused is None or _time(nominated) >= _time(refused)):
        return Waiting(cause=f"waiting for {needs}: {_launching(nominated, claims)}", for_capacity=True)
    if refused is None:
        reason = scheduled.get("message") or "the scheduler has not looked at the pod yet"
        return Waiting(cause=f"waiting for {needs}: {reason}", for_capacity=True)
    message: str = refused["message"]
    if OFFERING.search(message) or _pools_are_used_up(message, pod, pools):
        said = f": {message}" if OFFERING.search(message) else ""
        return Waiting(
            cause=f"waiting for {needs}: the cloud has none now, by its capacity or the account's quota{said}",
            remedy="Karpenter tries again every few minutes. Allow more instance families, zones or on-demand nodes in "
            "the NodePool, or raise the account's quota of vCPUs",
            for_capacity=True,
            about=f"no capacity for {needs}",
        )
    if LIMIT.search(message):
        remedy = "Wait until other runs end, or raise spec.limits of the NodePool"
        return Waiting(cause=f"waiting for {needs}: {message}", remedy=remedy, for_capacity=True)
    first = refused.get("firstTimestamp") or scheduled.get("lastTransitionTime")
    return Waiting(
        cause=f"no node type offers {needs}: {message}",
        remedy="Ask for another train.compute.gpu or instance_family in the YAML, or add the type to the NodePool",
        final=seconds_since(first) >= UNKNOWN_NODE_S,
        about=f"no node type offers {needs}",
    )


def _pools_are_used_up(message: str, pod: dict[str, Any], pools: Objects | None) -> bool:
    """Whether there are NodePools for a pod, and Karpenter speaks of those for other pods alone."""
    affinity: dict[str, Any] = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required: dict[str, Any] = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    expressions = [item for term in required.get("nodeSelectorTerms", []) for item in term.get("matchExpressions", [])]
    wanted = {value for item in expressions if item["key"] == POOL for value in item["values"]}
    templates = [pool["spec"]["template"].get("metadata", {}) for pool in pools or []]
    there_are = pools is None or any(template.get("labels", {}).get(POOL) in wanted for template in templates)
    return there_are and all(map(FOR_OTHERS.search, REFUSALS.split(message)))


def _launching(nominated: dict[str, Any], claims: Objects) -> str:
    """What is known of the node that Karpenter has found for a pod."""
    by_name = {claim["metadata"]["name"]: claim for claim in claims}
    names = [part.strip(",") for part in nominated["message"].replace("nodeclaim/", " ").split()]
    claim = next((by_name[name] for name in names if name in by_name), None)
    if claim is None:
        return nominated["message"]
    launched = condition(claim, "Launched")
    if launched.get("status") != "True" and launched.get("message"):
        return f"Karpenter cannot launch {_kind(claim)} yet: {launched['message']}"
    return f"Karpenter is launching {_kind(claim)}"


def _not_running(pod: dict[str, Any], events: Objects, claims: Objects) -> Waiting:
    node = pod["spec"].get("nodeName", "?")
    launched = [_kind(claim) for claim in claims if claim.get("status", {}).get("nodeName") == node]
    node = f"{node} ({launched[0]})" if launched else node
    status = pod.get("status", {})
    failed = [event for event in events if event.get("reason") in ("Failed", "BackOff", "InspectFailed")]
    since = _age(min(failed, key=_first_time)) if failed else 0.0
    tries = max((event.get("count") or 1 for event in failed), default=0)
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        held = container.get("state", {}).get("waiting") or {}
        reason, message = held.get("reason", ""), held.get("message", "")
        image = container.get("image") or pod["spec"]["containers"][0]["image"]
        if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"):
            told = [message, *(event.get("message", "") for event in failed)]
            no_such = any(map(NO_SUCH_IMAGE.search, told))
            remedy = "Push the image, or correct its name and the node's rights to pull it" if no_such else ""
            return Waiting(
                cause=f"the image {image} cannot be pulled on {node} ({reason}: {_cause_of_pull(told)})",
                remedy=remedy,
                final=reason == "InvalidImageName" or (no_such and since >= IMAGE_S),
                about=f"the image {image}",
            )
        if reason == "CreateContainerConfigError":
            return Waiting(
                cause=f"the container cannot be configured: {message}",
                remedy="Create the Secret or ConfigMap it names (ExternalSecrets make them in production)",
                final=since >= CONFIG_S,
            )
        if reason in ("CreateContainerError", "RunContainerError", "CrashLoopBackOff"):
            return Waiting(
                cause=f"the container cannot be started ({reason}: {message})",
                remedy="Correct what the message names, and run again",
                final=since >= START_S and tries >= START_TRIES,
                about="the container cannot be started",
            )
    unmounted = _latest(events, "FailedMount")
    if unmounted:
        remedy = "Create what it names" if "not found" in unmounted["message"] else ""
        final = bool(remedy) and _age(unmounted) >= UNKNOWN_NODE_S
        return Waiting(cause=f"a volume cannot be mounted: {unmounted['message']}", remedy=remedy, final=final)
    no_sandbox = _latest(events, "FailedCreatePodSandBox")
    if no_sandbox:
        return Waiting(cause=f"starting on {node}: {no_sandbox['message']}", about=f"no sandbox on {node}")
    return Waiting(cause=f"starting on {node}: the image is being pulled or the container made")


def _cause_of_pull(messages: list[str]) -> str:
    """What the registry says of an image, which neither "Back-off pulling" nor "Error: ErrImagePull" tells."""
    told = [
        text for text in messages if text and not re.search(r"back-?off|^Error: ErrImagePull$", text, re.IGNORECASE)
    ]
    return told[-1] if told else messages[0]


def _kind(claim: dict[str, Any]) -> str:
    """What a NodeClaim gives, such as `g5.xlarge spot`."""
    labels: dict[str, str] = claim["metadata"].get("labels", {})
    names = (INSTANCE_TYPE, CAPACITY_TYPE)
    return " ".join(labels[name] for name in names if name in labels) or "a node"


def death(job: dict[str, Any] | None, pod: dict[str, Any] | None, gone: bool = False) -> Death:
    """How the pod of a failed Job ended, told by conditions and exit codes alone.

    A pod that is `gone` is given as it was seen last, which may have been while it ran.
    """
    # The Job's pod failure policy matches the DisruptionTarget condition, and is there still when the pod is not
    by_policy = any(c.get("reason") == "PodFailurePolicy" for c in (job or {}).get("status", {}).get("conditions", []))
    if pod is None:
        cause = "the pod's node was taken away" if by_policy else "the pod is gone, and left no reason"
        return Death(budget="infrastructure", cause=cause)
    container, state = _terminated(pod)
    code: int | None = state.get("exitCode")
    disrupted = condition(pod, "DisruptionTarget")
    reason: str = pod.get("status", {}).get("reason", "")
    budget, cause, remedy = "code", f"{container} ended with exit code {code}", "See its last lines"
    if by_policy or disrupted.get("status") == "True":
        why = disrupted.get("reason") or "its node was taken away"
        budget, cause, remedy = "infrastructure", f"the pod was disrupted ({why})", ""
    elif "deletionTimestamp" in pod["metadata"] or (gone and not state):
        budget, cause, remedy = "infrastructure", "the pod was deleted, as when its node is taken away", ""
    elif not state and reason.startswith(REFUSED_BY_NODE):
        # As when a pod is bound while the device plugin of a new node has not counted its GPUs yet
        budget, cause, remedy = "infrastructure", f"its node refused the pod ({reason}: {_message(pod)})", ""
    elif state.get("reason") == "OOMKilled":
        memory = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "its limit")
        cause, remedy = (
            f"the process needed more memory than {memory} (OOMKilled)",
            "Raise memory in the YAML's compute",
        )
    elif reason == "Evicted":
        cause = f"the pod was evicted: {_message(pod)}"
        remedy = "Raise ephemeral_storage or memory in the YAML's compute"
    elif code in (KILLED, TERMINATED):
        signal = "SIGKILL" if code == KILLED else "SIGTERM"
        budget, cause, remedy = "infrastructure", f"{container} was ended by {signal}", ""
    elif code is None:
        cause = "the process ended without telling Dagster how"
    node = pod["spec"].get("nodeName", "")
    return Death(budget=budget, cause=cause, remedy=remedy, pod=pod["metadata"]["name"], node=node, exit_code=code)


def lost_with_node(pod: dict[str, Any]) -> Death:
    """The end of a pod whose node is not heard of any more, told before Kubernetes tells it."""
    cause, name = "its node is not heard of any more", pod["metadata"]["name"]
    return Death(budget="infrastructure", cause=cause, pod=name, node=pod["spec"].get("nodeName", ""))


def no_room(found: Waiting, waited_s: float) -> Death:
    """The end of a wait for capacity that has lasted as long as it may."""
    return Death(budget="infrastructure", cause=f"no room within {waited_s:.0f} s ({found.cause})", remedy=found.remedy)


def event_line(event: dict[str, Any]) -> str:
    """One event as one line."""
    return f"{event.get('type', '')} {event.get('reason', '')}: {event.get('message', '')}"


def started(pod: dict[str, Any]) -> bool:
    """Whether the pod's process has run, be it running or ended."""
    return pod.get("status", {}).get("phase") not in (None, "Pending")


def ended(pod: dict[str, Any]) -> bool:
    """Whether all of the pod's processes have ended."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def overdue(pod: dict[str, Any] | None) -> bool:
    """Whether a pod that was deleted is still there well after its grace period: its kubelet does not answer.

    The Job of such a pod counts it as active for as long as its node is there.
    """
    due = (pod or {"metadata": {}})["metadata"].get("deletionTimestamp")
    return due is not None and seconds_since(due) > OVERDUE_S


def job_ended(job: dict[str, Any]) -> bool:
    """Whether all pods of a Job have ended."""
    return holds(job, "Complete") or holds(job, "Failed")


def holds(item: dict[str, Any], kind: str) -> bool:
    """Whether a condition of a pod or a job is true."""
    return condition(item, kind).get("status") == "True"


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object, empty where it has none of the kind."""
    return next((c for c in item.get("status", {}).get("conditions") or [] if c["type"] == kind), {})


def _terminated(pod: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What ended in a pod, and how; an init container that failed comes first, for nothing started after it."""
    status = pod.get("status", {})
    for container in status.get("initContainerStatuses", []):
        state = container.get("state", {}).get("terminated") or {}
        if state.get("exitCode"):
            return f"the init container {container['name']}", state
    for container in status.get("containerStatuses", []):
        state = container.get("state", {}).get("terminated")
        if state:
            return "the process", state
    return "the process", {}


def _message(pod: dict[str, Any]) -> str:
    return pod.get("status", {}).get("message", "")


def _latest(events: Objects, reason: str, source: str = "") -> dict[str, Any] | None:
    def of_source(event: dict[str, Any]) -> bool:
        names = (event.get("reportingComponent") or "", (event.get("source") or {}).get("component") or "")
        return any(source in name for name in names)

    found = [event for event in events if event.get("reason") == reason and of_source(event)]
    return max(found, key=_time, default=None)


def _time(event: dict[str, Any]) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""


def _first_time(event: dict[str, Any]) -> str:
    return event.get("firstTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""


def _age(event: dict[str, Any]) -> float:
    return seconds_since(_first_time(event))


def seconds_since(time: str | None) -> float:
    """Seconds since a time as Kubernetes writes it, or 0 when there is none."""
    if not time:
        return 0.0
    then = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return (datetime.now(then.tzinfo) - then).total_seconds()
