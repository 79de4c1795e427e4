"""The platform as overlays/test deploys it, seen as users see it: through Dagster's API and kubectl."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACE = "mlops-test"
STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")
INPUTS = STAGES[:3]
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
RUN = """
query Run($id: ID!, $cursor: String) {
  runOrError(runId: $id) { ... on Run { status } }
  logsForRun(runId: $id, afterCursor: $cursor) {
    ... on EventConnection {
      cursor
      hasMore
      events {
        __typename
        ... on MessageEvent { message stepKey timestamp }
        ... on ExecutionStepFailureEvent {
          error { message }
          failureMetadata { metadataEntries { label ... on TextMetadataEntry { text } } }
        }
        ... on ExecutionStepUpForRetryEvent { error { message } }
        ... on RunFailureEvent { error { message } }
      }
    }
  }
}
"""

TERMINATE = """
mutation T($id: String!, $policy: TerminateRunPolicy) {
  terminateRun(runId: $id, terminatePolicy: $policy) { __typename }
}
"""
SLOTS = """
query Slots($pool: String!) { instance { concurrencyLimit(concurrencyKey: $pool) { claimedSlots { runId stepKey } } } }
"""


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """The output of kubectl."""
    done = subprocess.run(["kubectl", *arguments], input=stdin, text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def objects(*arguments: str) -> list[dict[str, Any]]:
    """What `kubectl get` lists."""
    return json.loads(kubectl("get", *arguments, "-o", "json"))["items"]


def gpu_claims() -> list[dict[str, Any]]:
    """NodeClaims of the GPU pool."""
    return objects("nodeclaims", "-l", "karpenter.sh/nodepool=gpu")


def step(model: str, stage: str) -> str:
    """The name of a stage's step."""
    return f"{model}__{stage}"


def python(script: str, *arguments: str) -> str:
    """What a script prints in the pod of the code location."""
    return kubectl("exec", "-n", NAMESPACE, "deploy/dagster-code", "--", "python", "-c", script, *arguments)


def override(step_k8s_config: str) -> str:
    """The configuration of a run whose step pods are made with this, in YAML, over what they have."""
    return f"execution: {{config: {{step_k8s_config: {step_k8s_config}}}}}"


def until(what: str, true: Callable[[], Any], timeout_s: float, every_s: float = 1.0) -> Any:
    """What `true` gives once it gives something."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = true()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(every_s)


@dataclass(frozen=True)
class Run:
    """A run as its page shows it."""

    status: str
    events: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """All messages and errors, a line each."""
        lines = []
        for event in self.events:
            lines.append(f"{event.get('stepKey') or '-'} {event['__typename']}: {event.get('message', '')}")
            if event.get("error"):
                lines.append(f"  {event['error']['message']}")
        return "\n".join(lines)


class Platform:
    """The Dagster API through a forwarded port of its Service, and the namespace."""

    def __init__(self, service_port: int = 80) -> None:
        self.port = free_port()
        self._service_port = service_port
        self._forward: subprocess.Popen[bytes] | None = None

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """An answer of Dagster's GraphQL API; the port is forwarded anew when it is not there any more."""
        import urllib.request

        body = json.dumps({"query": text, "variables": variables}).encode()
        deadline = time.monotonic() + 120
        while True:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}/graphql", body, {"content-type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    content = json.load(answer)
                assert "errors" not in content, content["errors"]
                return content["data"]
            except OSError:
                assert time.monotonic() < deadline, "the Dagster API does not answer"
                self._ensure_forwarded()
                time.sleep(1)

    def launch(self, *keys: str, job: str = "__ASSET_JOB", config: str = "") -> str:
        """Start a run as the UI's Materialize button does, of assets given as model/stage; its id."""
        selection = [{"path": key.split("/")} for key in keys] or None
        selector = {
            "repositoryLocationName": "mlops-assets",
            "repositoryName": "__repository__",
            "pipelineName": job,
            "assetSelection": selection,
        }
        params = {"mode": "default", "selector": selector, "runConfigData": config, "executionMetadata": {"tags": []}}
        answer = self.query(LAUNCH, params=params)["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def run(self, run_id: str) -> Run:
        """The run's status and events."""
        events: list[dict[str, Any]] = []
        cursor = None
        while True:
            answer = self.query(RUN, id=run_id, cursor=cursor)
            page = answer["logsForRun"]
            events += page["events"]
            cursor = page["cursor"]
            if not page["hasMore"]:
                return Run(answer["runOrError"]["status"], events)

    def finished(self, run_id: str, timeout_s: float = 600) -> Run:
        """The run once it has ended."""

        def ended() -> Run | None:
            run = self.run(run_id)
            return run if run.status in ("SUCCESS", "FAILURE", "CANCELED") else None

        return until(f"run {run_id}", ended, timeout_s, every_s=2)

    def terminate(self, run_id: str, policy: str = "SAFE_TERMINATE") -> None:
        """Cancel a run as the UI does; of a run that is starting it offers MARK_AS_CANCELED_IMMEDIATELY alone."""
        answer = self.query(TERMINATE, id=run_id, policy=policy)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def slots(self, pool: str) -> list[dict[str, Any]]:
        """Claimed slots of a concurrency pool."""
        return self.query(SLOTS, pool=pool)["instance"]["concurrencyLimit"]["claimedSlots"]

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods of the namespace."""
        return objects("pods", "-n", NAMESPACE, "-l", selector)

    def step_pod(self, run_id: str, step: str) -> dict[str, Any] | None:
        """The newest pod of a step that is not being deleted."""
        found = self.pods(f"dagster/run-id={run_id},dagster/op={step}")
        alive = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return max(alive, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)

    def close(self) -> None:
        """End the port forwarding."""
        if self._forward is not None:
            self._forward.kill()
            self._forward.wait()

    def _ensure_forwarded(self) -> None:
        if self._forward is None or self._forward.poll() is not None:
            ports = f"{self.port}:{self._service_port}"
            command = ["kubectl", "-n", NAMESPACE, "port-forward", "service/dagster-webserver", ports]
            self._forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
