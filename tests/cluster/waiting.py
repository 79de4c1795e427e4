"""Waiting for a state of the cluster, and the deadlines: what one takes says how long the platform may need for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")

# What a part of the platform does at its next look: a slot given back, a line logged, a pod of a deleted object gone
SOON_S = 120
# A pod's process works; bringing up its node, pulling its image and importing its packages are in it
POD_START_S = 300
# Nodes are drained and consolidated away, a namespace is emptied
GONE_S = 240
# A run that cannot go on, or is cancelled, has ended. Shorter than the platform's own timeouts: the cause must be seen
RUN_STOPS_S = 300
# A run has ended, a training on new nodes among its steps
RUN_S = 900

# A shortage of nodes: longer than it takes to call a node type unknown (pod_waits.UNKNOWN_NODE_S), and than Karpenter
# keeps in mind that a cloud has none of it
SHORTAGE_S = 240
# The step of a node that falls silent is on another one: 40 s until Kubernetes says so, 120 s that pods tolerate, their
# grace period, and 30 s more
SILENT_NODE_S = 360
# How long nothing may happen: Dagster's run monitoring looks every 20 s, Karpenter every 10 s
QUIET_S = 30


def wait_until(condition: Callable[[], Found], deadline_s: float, what: str, every_s: float = 1.0) -> Found:
    """Poll until it is truthy, and return it."""
    __tracebackhide__ = True
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {deadline_s:.0f} s"
        time.sleep(every_s)
    return found


def stays(condition: Callable[[], object], for_s: float, what: str, every_s: float = 1.0) -> None:
    """Poll for so long, and fail as soon as it is not truthy."""
    __tracebackhide__ = True
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < for_s:
        assert condition(), f"{what}: no longer after {passed:.0f} s"
        time.sleep(every_s)
