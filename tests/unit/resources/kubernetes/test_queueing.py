"""What a training in a queue waits for. The messages are Kueue's own, as version 0.17 wrote them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.kubernetes.queueing import in_queue, is_queued

LONG_AGO = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()


def training(suspend: bool | None) -> dict[str, Any]:
    policy = {} if suspend is None else {"suspend": suspend}
    return {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "trainings"}}, "spec": {"runPolicy": policy}}


def workload(message: str, reason: str = "Pending", since: str = LONG_AGO) -> dict[str, Any]:
    condition = {"type": "QuotaReserved", "status": "False", "reason": reason, "message": message}
    return {"status": {"conditions": [condition | {"lastTransitionTime": since}]}}


@pytest.mark.parametrize(("suspend", "expected"), [(True, True), (False, False), (None, False)])
def test_a_training_is_queued_while_kueue_holds_it_back(suspend: bool | None, expected: bool) -> None:
    assert is_queued(training(suspend)) is expected


def test_a_training_that_waits_names_its_queue_and_the_quota() -> None:
    told = "couldn't assign flavors to pod set worker: insufficient unused quota for nvidia.com/gpu in flavor mlops"
    found = in_queue(training(True), workload(told))
    assert (found.final, found.for_capacity) == (False, True)
    assert found.cause == f"waiting in the queue trainings for room for all workers at once: {told}"
    assert "raise the quota" in found.remedy


def test_a_training_that_was_not_looked_at_waits() -> None:
    found = in_queue(training(True), None)
    assert (found.final, found.for_capacity) == (False, True)
    assert "has not looked" in found.cause


def test_a_training_that_no_quota_will_fit_does_not_wait() -> None:
    told = "insufficient quota for nvidia.com/gpu in flavor mlops, previously considered podsets requests (0) + "
    told += "current podset request (9) > maximum capacity (8)"
    found = in_queue(training(True), workload(told))
    assert found.final
    assert "fewer train.compute.workers" in found.remedy


def test_a_queue_that_is_not_there_is_final_after_a_while() -> None:
    told, just_now = "LocalQueue trainings doesn't exist", datetime.now(UTC).isoformat()
    assert not in_queue(training(True), workload(told, "Inadmissible", just_now)).final
    found = in_queue(training(True), workload(told, "Inadmissible"))
    assert found.final
    assert told in found.cause
    assert "MLOPS_QUEUE" in found.remedy


def test_a_queue_that_somebody_has_stopped_is_waited_for() -> None:
    found = in_queue(training(True), workload("ClusterQueue mlops is inactive", "Inadmissible"))
    assert (found.final, found.for_capacity) == (False, True)
    assert "inactive" in found.cause
