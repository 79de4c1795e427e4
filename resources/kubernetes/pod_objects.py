"""What Kubernetes' objects say of themselves: phases, conditions, events, times.

All objects are dicts as the API gives them in JSON. Nothing here talks to a cluster.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

Objects = list[dict[str, Any]]

# A kubelet ends a pod within its grace period; one that has not this long after it is hung, or cut off
OVERDUE_S = 30


def event_line(event: dict[str, Any]) -> str:
    """One event as one line."""
    return f"{event.get('type', '')} {event.get('reason', '')}: {event.get('message', '')}"


def ending(container: dict[str, Any]) -> dict[str, Any]:
    """How a container ended, be it now or before it was started again last; empty where it never has."""
    states = (container.get(name) or {} for name in ("state", "lastState"))
    return next((state["terminated"] for state in states if state.get("terminated")), {})


def failing(pod: dict[str, Any]) -> dict[str, Any]:
    """The status of the container that keeps a pod from being ready; empty where none has begun.

    An init container that failed comes first, then one that is started again and again, then one that is not ready.
    """
    status = pod.get("status", {})
    containers = status.get("containerStatuses") or []
    stuck = [item for item in status.get("initContainerStatuses") or [] if not item.get("ready")]
    ranked = [*stuck, *sorted(containers, key=lambda item: (bool(item.get("ready")), -item.get("restartCount", 0)))]
    return next(iter(ranked), {})


def state_line(container: dict[str, Any]) -> str:
    """The state of a container as one line.

    >>> ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    >>> held = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    >>> state_line({"name": "server", "state": held, "lastState": ended, "restartCount": 3})
    'server waits (CrashLoopBackOff: back-off 10s), ended with exit code 137 (OOMKilled) before, started again 3 times'
    """
    state = container.get("state") or {}
    held, last = state.get("waiting"), (container.get("lastState") or {}).get("terminated")
    parts = list[str]()
    if held is not None:
        parts.append(f"waits ({reason_given(held)})")
    elif "running" in state:
        parts.append(f"runs and is {'ready' if container.get('ready') else 'not ready'}")
    elif state.get("terminated"):
        parts.append(_ended_by(state["terminated"]))
    if last:
        parts.append(f"{_ended_by(last)} before")
    if restarts := container.get("restartCount", 0):
        parts.append(f"started again {restarts} times" if restarts > 1 else "started again once")
    return f"{container.get('name', '?')} {', '.join(parts) or 'has no state yet'}"


def reason_given(item: dict[str, Any]) -> str:
    """Why a condition or a container is as it is: a word, and where there is one a sentence."""
    return ": ".join(filter(None, (item.get("reason"), item.get("message")))) or "no reason given"


def _ended_by(state: dict[str, Any]) -> str:
    reason = f" ({state['reason']})" if state.get("reason") else ""
    return f"ended with exit code {state.get('exitCode')}{reason}"


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


def latest(events: Objects, reason: str, source: str = "") -> dict[str, Any] | None:
    """The event of a reason, and of a component, that was seen last."""

    def of_source(event: dict[str, Any]) -> bool:
        names = (event.get("reportingComponent") or "", (event.get("source") or {}).get("component") or "")
        return any(source in name for name in names)

    found = [event for event in events if event.get("reason") == reason and of_source(event)]
    return max(found, key=last_time, default=None)


def last_time(event: dict[str, Any]) -> str:
    """When an event was seen last; which field has it depends on who wrote it."""
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""


def first_time(event: dict[str, Any]) -> str:
    """When an event was seen first."""
    return event.get("firstTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""


def age_s(event: dict[str, Any]) -> float:
    """Seconds since an event was seen first."""
    return seconds_since(first_time(event))


def seconds_since(time: str | None) -> float:
    """Seconds since a time as Kubernetes writes it, or 0 when there is none."""
    if not time:
        return 0.0
    then = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return (datetime.now(then.tzinfo) - then).total_seconds()
