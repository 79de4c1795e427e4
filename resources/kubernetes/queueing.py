"""What a training waits for in a queue of Kueue, in words: a queued PyTorchJob has no pod until all of it is admitted.

The name of a LocalQueue comes from MLOPS_QUEUE and stands on the PyTorchJob as a label; Kueue does the rest.
All objects are dicts as the API gives them in JSON.
"""

from __future__ import annotations

import re
from typing import Any

from resources.kubernetes.pod_objects import condition, seconds_since
from resources.kubernetes.pod_waits import ADMISSION_S, Waiting

QUEUE = "kueue.x-k8s.io/queue-name"
JOB_UID = "kueue.x-k8s.io/job-uid"  # label by which Kueue marks the Workload that it makes of a job
# What Kueue says of a queue that nobody has made, and of a job that does not fit an empty one either
NO_QUEUE = re.compile("doesn't exist")
TOO_LARGE = re.compile("maximum capacity")


def is_queued(job: dict[str, Any]) -> bool:
    """Whether Kueue holds a PyTorchJob back."""
    return bool(job["spec"].get("runPolicy", {}).get("suspend"))


def in_queue(job: dict[str, Any], workload: dict[str, Any] | None) -> Waiting:
    """What a PyTorchJob that is held back waits for, by the conditions of its Workload."""
    queue = f"the queue {job['metadata']['labels'][QUEUE]}"
    reserved = condition(workload or {}, "QuotaReserved")
    told: str = reserved.get("message") or "Kueue has not looked at the training yet"
    if NO_QUEUE.search(told):
        since = seconds_since(reserved.get("lastTransitionTime"))
        return Waiting(
            cause=f"{queue} takes no trainings: {told}",
            remedy="Create what it names (k8s/components/kueue), or correct MLOPS_QUEUE",
            final=since >= ADMISSION_S,
        )
    if TOO_LARGE.search(told):
        return Waiting(
            cause=f"the training is larger than {queue}: {told}",
            remedy="Ask for fewer train.compute.workers or gpu in the YAML, or raise the quota of its ClusterQueue",
            final=True,
        )
    return Waiting(
        cause=f"waiting in {queue} for room for all workers at once: {told}",
        remedy="Wait until other trainings end, or raise the quota of its ClusterQueue (start it where inactive)",
        for_capacity=True,
    )
