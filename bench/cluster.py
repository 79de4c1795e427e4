"""Orchestration on a cluster, where `MLOPS_KEEP=1 make test-cluster` has left the platform of overlays/test."""

from __future__ import annotations

import os
import statistics
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.measure import say

if TYPE_CHECKING:
    from bench.measure import Result


def measure() -> list[Result]:
    """Steps of iris and a training on a node that is there; nothing where there is no deployed platform."""
    from bench.measure import result
    from tests.cluster.kubectl import NAMESPACE, kubectl
    from tests.cluster.platform import Platform

    if not os.environ.get("KUBECONFIG") or not kubectl("get", "namespace", NAMESPACE, "--ignore-not-found"):
        say(f"   left out: KUBECONFIG names no cluster with the namespace {NAMESPACE}")
        return []
    platform = Platform()
    try:
        overheads = [seconds for _ in range(2) for seconds in _overheads(platform, platform.launch(job="iris"))]
        platform.run_ends(platform.launch("fraud_detection/trained_model"))
        waits = [_until_training(platform) for _ in range(3)]
    finally:
        platform.close()
    overhead, wait = statistics.median(overheads), statistics.median(waits)
    return [
        result("a step in a pod, beyond the pod's own start", overhead, "s", "", None, goal=("<=", 3, "s")),
        result("submit to the training step, warm GPU node", wait, "s", "", None, goal=("<=", 30, "s")),
    ]


def _overheads(platform: Any, run_id: str) -> list[float]:
    """Seconds from the start of each step's container to the start of its step."""
    run = platform.run_ends(run_id)
    begun = {
        e["stepKey"]: float(e["timestamp"]) / 1000 for e in run.events if e["__typename"] == "ExecutionStepStartEvent"
    }
    seconds = []
    for pod in platform.pods(f"dagster/run-id={run_id},app.kubernetes.io/component=step_worker"):
        status = pod["status"]["containerStatuses"][0]["state"]
        started = (status.get("terminated") or status["running"])["startedAt"]
        step = pod["metadata"]["labels"]["dagster/op"]
        # Kubernetes cuts the time to whole seconds, which is half a second on average
        begin = datetime.fromisoformat(started.replace("Z", "+00:00")).timestamp() + 0.5
        seconds.append(begun[step] - begin)
    return seconds


def _until_training(platform: Any) -> float:
    """Seconds from the API call to the start of the training step; the node of the training before is still there."""
    submitted = time.time()
    run = platform.run_ends(platform.launch("fraud_detection/trained_model"))
    [begun] = [float(e["timestamp"]) / 1000 for e in run.events if e["__typename"] == "ExecutionStepStartEvent"]
    return begun - submitted
