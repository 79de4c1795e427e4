"""What the cluster looks like when a test has failed. Bounded in size and time, and it never fails itself."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.kubectl import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND_S = 10
TOTAL_S = 60
SECTION_CHARACTERS = 10_000
LOG_LINES = 60
DESCRIBED_PODS = 8
EVENTS_OF = timedelta(minutes=15)
EVENTS = 100


def cluster_state(namespace: str = NAMESPACE, total_s: float = TOTAL_S) -> str:
    """A text of sections; what cannot be collected says why in its place."""
    end = time.monotonic() + total_s
    sections = []
    try:
        for title, collect in _parts(namespace):
            if time.monotonic() > end:
                sections.append(f"== the rest is left out: {total_s:.0f} s have passed")
                break
            sections.append(f"== {title}\n{_bounded(_attempt(collect))}")
    # A test's own timeout, which raises wherever the test is, included
    except (Exception, pytest.fail.Exception) as error:
        sections.append(f"== the rest is left out: {error!r}")
    return "\n\n".join(sections)


def _parts(namespace: str) -> Iterator[tuple[str, Callable[[], str]]]:
    inside = ("-n", namespace)
    yield "pods", lambda: _kubectl("get", "pods", *inside, "-o", "wide")
    yield "nodes", lambda: _kubectl("get", "nodes", "-o", "wide")
    for kind in ("nodeclaims", "jobs", "pytorchjobs", "inferenceservices"):
        yield kind, lambda kind=kind: _kubectl("get", kind, *inside, "-o", "wide")
    yield "events, the newest last", lambda: _events(namespace)
    for name in ("dagster-daemon", "dagster-code", "dagster-webserver"):
        yield f"log of {name}", lambda name=name: _kubectl("logs", *inside, f"deploy/{name}", f"--tail={LOG_LINES}")
    for name in _pods_not_running(namespace):
        yield f"pod {name}", lambda name=name: _kubectl("describe", "pod", *inside, name)


def _attempt(collect: Callable[[], str]) -> str:
    try:
        return collect()
    except Exception as error:
        return repr(error)


def _bounded(text: str) -> str:
    """The end of a text, where logs and descriptions say what went wrong."""
    cut = len(text) - SECTION_CHARACTERS
    return text.rstrip() if cut <= 0 else f"({cut} characters cut) {text[cut:].rstrip()}"


def _kubectl(*arguments: str) -> str:
    """Standard output and error, whatever the exit code: a kind that this cluster lacks is worth a line."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = ["kubectl", *arguments]
    done = subprocess.run(command, **both, text=True, errors="replace", timeout=COMMAND_S, check=False)
    return done.stdout


def _pods_not_running(namespace: str) -> list[str]:
    """The newest pods that wait, have failed, or run without being ready."""
    pods = json.loads(_kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    bad = [pod for pod in pods if pod["status"].get("phase") != "Succeeded" and not _is_ready(pod)]
    bad.sort(key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
    return [pod["metadata"]["name"] for pod in bad[:DESCRIBED_PODS]]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def _events(namespace: str) -> str:
    """Events of the namespace and of what belongs to none, as nodes and NodeClaims do."""
    since = (datetime.now(UTC) - EVENTS_OF).isoformat()
    lines = []
    for event in json.loads(_kubectl("get", "events", "-A", "-o", "json"))["items"]:
        # Karpenter's about nodes and NodeClaims have no name
        about = event["involvedObject"]
        if about.get("namespace", namespace) == namespace and _last_seen(event) >= since:
            message = f"{event.get('type')} {event.get('reason')}: {event.get('message')}"
            lines.append(f"{_last_seen(event)} {about.get('kind')}/{about.get('name')} {message}")
    return "\n".join(sorted(lines)[-EVENTS:])


def _last_seen(event: dict[str, Any]) -> str:
    """An ISO time; which field has it depends on who wrote the event."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return series or event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
