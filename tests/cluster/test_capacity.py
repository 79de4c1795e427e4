"""The cloud has no GPUs for a while: a training waits, says so, and then runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.kubectl import run_script
from tests.cluster.nodes import cloud_without_gpus, gpu_claims, gpu_nodes_are_gone
from tests.cluster.platform import INPUTS
from tests.cluster.results import keys, training_keys
from tests.cluster.waiting import SHORTAGE_S, stays

if TYPE_CHECKING:
    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1500)]
MODEL = "disturbed"
TOLD = "waiting for a gpu node (1 GPU): the cloud has none now"


def test_a_training_waits_until_the_cloud_has_gpus_again(platform: Platform) -> None:
    if not keys(f"lake/{MODEL}/features/"):
        platform.materialize(MODEL, *INPUTS)
    run_script("delete_keys", *training_keys(MODEL))
    gpu_nodes_are_gone()
    with cloud_without_gpus():
        run_id = platform.launch(f"{MODEL}/trained_model")
        platform.run_logs(run_id, TOLD)
        stays(lambda: not platform.run(run_id).ended, SHORTAGE_S, "the training waits", every_s=5)
        assert not gpu_claims()
    run = platform.run_succeeds(run_id)
    assert not run.events_of("ExecutionStepUpForRetryEvent"), "the wait costs nothing"
    said = [event["message"] for event in run.events_of("EngineEvent") if TOLD in event["message"]]
    assert len(said) == 1, "logged once while it waits"
    assert "raise the account's quota" in said[0]
