"""What becomes of runs when pods, nodes and servers go away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.kubectl import NAMESPACE, kubectl, objects, run_script
from tests.cluster.nodes import delete_node, gpu_claims
from tests.cluster.platform import INPUTS, of_run, step
from tests.cluster.results import compute_logs, mlflow_runs, training_keys, weights_sha256
from tests.cluster.waiting import POD_START_S, QUIET_S, SOON_S, stays, wait_until

if TYPE_CHECKING:
    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]


def kill_step(pod: dict[str, Any]) -> None:
    """kill -9 of the step's process."""
    # The container ends, and with it the command that ended it
    run_script("kill_processes", "cmdline", "execute_step", pod=pod["metadata"]["name"], check=False)


def kill_step_after_an_upload(pod: dict[str, Any]) -> None:
    """The same, once some of what the step wrote is in S3."""
    run_id = pod["metadata"]["labels"]["dagster/run-id"]
    wait_until(lambda: "rows/s" in compute_logs(run_id), SOON_S, "lines of the step are in S3")
    kill_step(pod)


# Fewer than the model's YAML allows: a slow machine may add one of its own
INTERRUPTIONS = (delete_node, kill_step_after_an_upload, delete_node, kill_step, delete_node)


def one_node_goes_and_one_comes() -> bool:
    """However often pods die, no more nodes are bought."""
    return len(gpu_claims()) <= 2


def next_training(platform: Platform, run_id: str, seen: set[str]) -> dict[str, Any]:
    """A pod of the training that is not among those seen, and is from now on, once it trains."""

    def running() -> dict[str, Any] | None:
        run = platform.run(run_id)
        assert not run.ended, run.text
        assert one_node_goes_and_one_comes()
        pod = platform.step_pod(run_id, step("disturbed", "trained_model"))
        is_new = pod is not None and pod["metadata"]["name"] not in seen
        return pod if is_new and pod["status"]["phase"] == "Running" else None

    pod = wait_until(running, POD_START_S, "a new training pod runs")
    seen.add(pod["metadata"]["name"])
    platform.pod_writes(pod, "rows/s")
    return pod


def test_a_training_that_is_interrupted_again_and_again_ends_with_the_same_weights(platform: Platform) -> None:
    platform.materialize("undisturbed", *INPUTS)
    platform.materialize("disturbed", *INPUTS)
    platform.materialize("undisturbed", "trained_model")

    run_script("delete_keys", *training_keys("disturbed"))  # what other tests have trained
    run_id = platform.launch("disturbed/trained_model")
    seen: set[str] = set()
    for interrupt in INTERRUPTIONS:
        interrupt(next_training(platform, run_id, seen))
    stays(one_node_goes_and_one_comes, QUIET_S, "one node that goes and one that comes")
    run = platform.run_succeeds(run_id)

    assert len(run.events_of("ExecutionStepUpForRetryEvent")) >= len(INTERRUPTIONS)
    assert "resuming at epoch" in run.text
    assert "was disrupted" in run.text or "the pod was deleted" in run.text
    assert "ended by SIGKILL" in run.text
    assert weights_sha256("disturbed") == weights_sha256("undisturbed")
    assert [r["status"] for r in mlflow_runs() if r["tags"].get("dagster_run_id") == run_id] == ["FINISHED"]
    assert "rows/s" in compute_logs(run_id), "what a killed step wrote can still be read"
    platform.pool_is_free("gpu")


def test_a_run_whose_pod_is_killed_goes_on(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    pod = platform.run_starts(run_id)
    platform.step_starts(run_id, step("iris", "prepared_data"))
    kubectl("delete", "pod", "-n", NAMESPACE, pod["metadata"]["name"], "--grace-period=1", "--wait=false")
    assert "Resuming run" in platform.run_succeeds(run_id).text


def test_a_run_cancelled_while_it_starts_leaves_nothing_that_goes_on(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    platform.run_starts(run_id)
    platform.terminate(run_id, "MARK_AS_CANCELED_IMMEDIATELY")

    def no_pod_goes_on() -> bool:
        return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in platform.pods(of_run(run_id)))

    wait_until(no_pod_goes_on, SOON_S, "no pod goes on")
    stays(no_pod_goes_on, QUIET_S, "no pod goes on")
    assert platform.run(run_id).status == "CANCELED"
    assert not objects("jobs", "-n", NAMESPACE, "-l", of_run(run_id, "step_worker"))


def test_a_run_outlives_restarts_of_postgresql_mlflow_and_the_daemon(platform: Platform) -> None:
    run_id = platform.launch(job="iris")
    platform.step_starts(run_id, step("iris", "features"))
    daemon = ("-l", "app.kubernetes.io/name=dagster-daemon", "--grace-period=0", "--force")
    kubectl("delete", "pod", "-n", NAMESPACE, *daemon)
    kubectl("delete", "pod", "-n", NAMESPACE, "postgres-0", "--wait=false")
    kubectl("rollout", "restart", "-n", NAMESPACE, "deployment/mlflow")
    platform.run_succeeds(run_id)
