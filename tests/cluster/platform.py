"""The platform as overlays/test deploys it, in the states that tests wait for.

A method whose name is a state (`run_ends`, `step_starts`) waits for it and returns what has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.cluster.dagster_api import DagsterApi, Run
from tests.cluster.kubectl import NAMESPACE, kubectl, objects
from tests.cluster.waiting import POD_START_S, RUN_S, RUN_STOPS_S, SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Collection

STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")
INPUTS = STAGES[:3]


def step(model: str, stage: str) -> str:
    """The name of a stage's step."""
    return f"{model}__{stage}"


def override(step_k8s_config: str) -> str:
    """The configuration of a run whose step pods are made with this, in YAML, over what they have."""
    return f"execution: {{config: {{step_k8s_config: {step_k8s_config}}}}}"


def of_run(run_id: str, component: str = "") -> str:
    """The label selector of a run's pods and jobs; a component is run_worker, step_worker or training_worker."""
    selector = f"dagster/run-id={run_id}"
    return f"{selector},app.kubernetes.io/component={component}" if component else selector


class Platform(DagsterApi):
    """Dagster's API, and the namespace."""

    # ---- runs ----
    def materialize(self, model: str, *stages: str) -> Run:
        """A run of stages of a model, which succeeds."""
        return self.run_succeeds(self.launch(*(f"{model}/{stage}" for stage in stages)))

    def run_ends(self, run_id: str, deadline_s: float = RUN_S) -> Run:
        """The run, however it has ended."""

        def ended() -> Run | None:
            run = self.run(run_id)
            return run if run.ended else None

        run = wait_until(ended, deadline_s, f"run {run_id} ends", every_s=2)
        # pytest cuts long texts out of failed assertions, and shows what was printed
        print(f"run {run_id}, {run.status}\n{run.text}")
        return run

    def run_succeeds(self, run_id: str) -> Run:
        """The run, which has succeeded."""
        run = self.run_ends(run_id)
        assert run.status == "SUCCESS"
        return run

    def run_fails(self, run_id: str) -> Run:
        """The run, which has failed."""
        run = self.run_ends(run_id, RUN_STOPS_S)
        assert run.status == "FAILURE"
        return run

    def run_is_cancelled(self, run_id: str) -> Run:
        """The run, which has been cancelled."""
        run = self.run_ends(run_id, RUN_STOPS_S)
        assert run.status == "CANCELED"
        return run

    def run_logs(self, run_id: str, text: str) -> Run:
        """The run, which has logged a text."""

        def logged() -> Run | None:
            run = self.run(run_id)
            return run if text in run.text else None

        return wait_until(logged, SOON_S, f"run {run_id} logs {text!r}")

    def no_run_goes_on(self) -> None:
        """All runs have ended."""
        wait_until(lambda: not self.unfinished_runs(), RUN_STOPS_S, "all runs have ended")

    def pool_is_free(self, pool: str) -> None:
        """No slot of the concurrency pool is claimed."""
        wait_until(lambda: not self.claimed_slots(pool), SOON_S, f"the pool {pool} is free")

    # ---- pods ----
    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods of the namespace."""
        return objects("pods", "-n", NAMESPACE, "-l", selector)

    def live_pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods that are not being deleted."""
        return [pod for pod in self.pods(selector) if "deletionTimestamp" not in pod["metadata"]]

    def step_pod(self, run_id: str, step: str) -> dict[str, Any] | None:
        """The newest pod of a step."""
        found = self.live_pods(f"{of_run(run_id)},dagster/op={step}")
        return max(found, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)

    def run_starts(self, run_id: str) -> dict[str, Any]:
        """The run's own pod."""
        selector = of_run(run_id, "run_worker")
        return wait_until(lambda: self.pods(selector), SOON_S, f"the pod of run {run_id}", every_s=0.1)[0]

    def step_starts(self, run_id: str, step: str) -> dict[str, Any]:
        """The pod of a step."""
        return wait_until(lambda: self.step_pod(run_id, step), POD_START_S, f"the pod of step {step}")

    def workers_run(self, run_id: str, count: int, seen: Collection[str] = ()) -> list[dict[str, Any]]:
        """So many pods of the run's PyTorchJob, all running; pods whose uid was seen do not count."""

        def running() -> list[dict[str, Any]] | None:
            run = self.run(run_id)
            assert not run.ended, run.text
            pods = self.live_pods(of_run(run_id, "training_worker"))
            pods = [pod for pod in pods if pod["metadata"]["uid"] not in seen]
            return pods if [pod["status"].get("phase") for pod in pods] == ["Running"] * count else None

        return wait_until(running, POD_START_S, f"{count} workers of run {run_id} run")

    def pod_writes(self, pod: dict[str, Any], text: str = "") -> None:
        """The log of a pod, which may have just started, has a text, or anything."""
        name = pod["metadata"]["name"]

        def written() -> bool:
            log = kubectl("logs", "-n", NAMESPACE, name, check=False).strip()
            return log != "" and text in log

        wait_until(written, POD_START_S, f"pod {name} writes {text!r}")

    def no_pod_is_left(self, run_id: str) -> None:
        """All pods of the run have gone."""
        wait_until(lambda: not self.pods(of_run(run_id)), SOON_S, f"no pod of run {run_id} is left")
