"""How a pod died, in words, and whose budget of retries that costs: from the objects Kubernetes keeps about it."""

from __future__ import annotations

from typing import Any, Literal

from resources.kubernetes.pod_objects import condition, ending
from resources.kubernetes.pod_waits import Diagnosis, Waiting

KILLED, TERMINATED = 137, 143
# Kubelet's reasons not to take a pod that the scheduler has bound to it: OutOfcpu, OutOfnvidia.com/gpu, ...
REFUSED_BY_NODE = ("OutOf", "UnexpectedAdmissionError", "NodeAffinity", "NodeShutdown", "Preempting")


class Death(Diagnosis):
    """How a pod ended, or that it found no room in time, and whose budget that costs."""

    budget: Literal["infrastructure", "code"]
    pod: str = ""
    node: str = ""
    exit_code: int | None = None


def death(
    job: dict[str, Any] | None, pod: dict[str, Any] | None, gone: bool = False, asked_in: str = "compute"
) -> Death:
    """How the pod of a failed Job ended, or ended before it was started again, told by conditions and exit codes alone.

    A pod that is `gone` is given as it was seen last, which may have been while it ran. `asked_in` is the block of the
    YAML that says what such a pod has.
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
            f"Raise memory in the YAML's {asked_in}",
        )
    elif reason == "Evicted":
        cause = f"the pod was evicted: {_message(pod)}"
        remedy = f"Raise ephemeral_storage or memory in the YAML's {asked_in}"
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


def _terminated(pod: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What ended in a pod, and how; an init container that failed comes first, for nothing started after it."""
    status = pod.get("status", {})
    for container in status.get("initContainerStatuses", []):
        state = ending(container)
        if state.get("exitCode"):
            return f"the init container {container['name']}", state
    for container in status.get("containerStatuses", []):
        state = ending(container)
        if state:
            return "the process", state
    return "the process", {}


def _message(pod: dict[str, Any]) -> str:
    return pod.get("status", {}).get("message", "")
