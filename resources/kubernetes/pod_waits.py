"""Why a pod does not start, in words: from the objects that Kubernetes and Karpenter keep about it."""

from __future__ import annotations

import re
from typing import Any

from mlops_assets.ml.values import Value
from resources.kubernetes.labels import CAPACITY_TYPE, INSTANCE_TYPE, POOL
from resources.kubernetes.pod_objects import Objects, age_s, condition, first_time, last_time, latest, seconds_since

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
QUOTA = re.compile("requested: ([^ ]+), used: [^ ]+, limited: ([^ ]+)$")
# Karpenter's words for what is used up for now, after which it tries again: an instance type in a zone, spot or on
# demand, which the cloud has none of, also where the other workers of a training are; and a NodePool's limit
OFFERING = re.compile("offering|filtered out all available instance types|unsatisfiable topology", re.IGNORECASE)
LIMIT = re.compile("limits|exceed", re.IGNORECASE)
# Of a NodePool whose instance types are all used up it says nothing at all. What is left are those for other pods: one
# refusal of each, in which further keys begin with "key"
REFUSALS = re.compile(r"; (?!key |label )")
FOR_OTHERS = re.compile(rf"did not tolerate taint|key {re.escape(POOL)},")


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
    failed = latest(events, "FailedCreate") or latest(events, "FailedCreatePod")
    if failed is None:
        return Waiting(cause="waiting for Kubernetes to create the pod")
    message: str = failed["message"]
    if "exceeded quota" in message:
        if larger := _larger_than_quota(message):
            return Waiting(
                cause=f"the pod asks for more {larger} than the whole quota has: {message}",
                remedy="Ask for less in the YAML's compute, or raise the ResourceQuota",
                final=True,
            )
        return Waiting(
            cause=f"waiting for quota: {message}",
            remedy="Wait until other runs end, ask for less in the YAML's compute, or raise the ResourceQuota",
            for_capacity=True,
        )
    final = age_s(failed) >= ADMISSION_S
    remedy = "Correct what it names in k8s/, apply that, and run again"
    return Waiting(cause=f"Kubernetes refuses the pod: {message}", remedy=remedy, final=final)


def _larger_than_quota(message: str) -> str:
    """What no end of other runs will give room for, by the words of the API server."""
    from kubernetes.utils import parse_quantity

    told = QUOTA.search(message)
    if told is None:
        return ""
    asked, whole = (dict(item.split("=") for item in part.split(",")) for part in told.groups())
    return ", ".join(
        name for name in asked if parse_quantity(asked[name]) > parse_quantity(whole.get(name, "Infinity"))
    )


def _not_scheduled(
    needs: str,
    pod: dict[str, Any],
    scheduled: dict[str, Any],
    events: Objects,
    claims: Objects,
    pools: Objects | None,
) -> Waiting:
    nominated = latest(events, "Nominated")
    refused = latest(events, "FailedScheduling", "karpenter")
    if nominated and (refused is None or last_time(nominated) >= last_time(refused)):
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
    since = age_s(min(failed, key=first_time)) if failed else 0.0
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
    unmounted = latest(events, "FailedMount")
    if unmounted:
        remedy = "Create what it names" if "not found" in unmounted["message"] else ""
        final = bool(remedy) and age_s(unmounted) >= UNKNOWN_NODE_S
        return Waiting(cause=f"a volume cannot be mounted: {unmounted['message']}", remedy=remedy, final=final)
    no_sandbox = latest(events, "FailedCreatePodSandBox")
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
