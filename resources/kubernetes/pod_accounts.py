"""What is to be known of a pod that fails, in lines: its containers, its events, and its own last words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_assets.ml.foreign_text import LONGEST_LINE, MOST_LINES, last_lines
from resources.kubernetes.api import reason_of
from resources.kubernetes.pod_objects import ending, event_line, failing, state_line
from resources.kubernetes.pods import NO_LOG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resources.kubernetes.pod_objects import Objects
    from resources.kubernetes.pods import Pods

EVENTS = 5
INDENT = "    "


class Words(NamedTuple):
    """The last lines of a container, and whose they are."""

    whose: str
    lines: list[str]


class Events(NamedTuple):
    """The events of a pod, oldest first; `unknown` says why there are none."""

    events: Objects
    unknown: str


def account(pods: Pods, pod: dict[str, Any]) -> list[str]:
    """Where a pod is and how its containers are, its last events and log lines.

    What the API server does not tell leaves its reason in its place, and nothing else out.
    """
    name, status = pod["metadata"]["name"], pod.get("status", {})
    node = pod.get("spec", {}).get("nodeName")
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    events, words = known_events(pods, name), last_words(pods, pod)
    return [
        f"pod {name} {f'on node {node}' if node else 'on no node yet'}, {status.get('phase', 'of no phase yet')}",
        *_indented(map(state_line, containers)),
        "its last events:",
        *_indented(map(event_line, events.events[-EVENTS:])),
        *_indented([events.unknown] if events.unknown else []),
        f"{words.whose}:",
        *_indented(words.lines),
    ]


def last_words(pods: Pods, pod: dict[str, Any]) -> Words:
    """What the container that fails has written last, before it was started again where it was.

    A node keeps the log of one container before the last; what Kubernetes has kept of it in the pod stays.
    """
    container = failing(pod)
    name = container.get("name")
    again = bool((container.get("lastState") or {}).get("terminated"))
    log, kept = pods.log(pod["metadata"]["name"], again, name), ending(container).get("message")
    if log.startswith(NO_LOG) and kept:
        log = kept
    whose = f"the last lines of {name or 'its container'}{' before it was started again' if again else ''}"
    return Words(whose, last_lines(log, MOST_LINES) or ["(nothing)"])


def known_events(pods: Pods, name: str) -> Events:
    """The events of a pod, as far as the API server tells them."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        found = pods.events(name)
    except ApiException as error:
        return Events([], f"(not known: {reason_of(error)})")
    except HTTPError as error:
        return Events([], f"(not known: {error})")
    return Events(found, "" if found else "(none)")


def _indented(lines: Iterable[str]) -> list[str]:
    """Each as one bounded line, for what registries, webhooks and programs say has any form."""
    flat = (" ".join(last_lines(line)) for line in lines)
    return [f"{INDENT}{line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 3] + '...'}" for line in flat]
