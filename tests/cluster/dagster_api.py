"""Dagster's API, as the UI uses it, through a forwarded port of its Service."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.cluster import graphql
from tests.cluster.kubectl import NAMESPACE
from tests.cluster.waiting import SOON_S, wait_until
from tests.support import free_port

REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "mlops-assets"}


@dataclass(frozen=True)
class Run:
    """A run as its page shows it."""

    status: str
    events: list[dict[str, Any]]

    @property
    def ended(self) -> bool:
        """Whether nothing of it goes on."""
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")

    @property
    def text(self) -> str:
        """All messages and errors, a line each."""
        lines = []
        for event in self.events:
            lines.append(f"{event.get('stepKey') or '-'} {event['__typename']}: {event.get('message', '')}")
            if event.get("error"):
                lines.append(f"  {event['error']['message']}")
        return "\n".join(lines)

    def events_of(self, typename: str) -> list[dict[str, Any]]:
        """Events of one of GraphQL's types."""
        return [event for event in self.events if event["__typename"] == typename]


class DagsterApi:
    """The API of one of the webservers. All ids are Dagster's."""

    def __init__(self, webserver: str = "dagster-webserver") -> None:
        self.port = free_port()
        self._webserver = webserver
        self._forward: subprocess.Popen[bytes] | None = None

    def query(self, document: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer; the port is forwarded anew when it is not there any more."""
        body = json.dumps({"query": document, "variables": variables}).encode()
        url = f"http://127.0.0.1:{self.port}/graphql"

        def answer() -> dict[str, Any] | None:
            request = urllib.request.Request(url, body, {"content-type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.load(response)
            except OSError:
                self._ensure_forwarded()
                return None

        content = wait_until(answer, SOON_S, "the Dagster API answers")
        assert "errors" not in content, content["errors"]
        return content["data"]

    def launch(self, *keys: str, job: str = "__ASSET_JOB", config: str = "", tags: dict[str, str] | None = None) -> str:
        """Start a run as the UI's Materialize button does, of assets given as model/stage; its id."""
        selection = [{"path": key.split("/")} for key in keys] or None
        selector = {**REPOSITORY, "pipelineName": job, "assetSelection": selection}
        execution = {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]}
        params = {"mode": "default", "selector": selector, "runConfigData": config, "executionMetadata": execution}
        answer = self.query(graphql.LAUNCH_RUN, params=params)["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def run(self, run_id: str) -> Run:
        """The run's status and events."""
        events: list[dict[str, Any]] = []
        cursor = None
        while True:
            answer = self.query(graphql.RUN, id=run_id, cursor=cursor)
            page = answer["logsForRun"]
            events += page["events"]
            cursor = page["cursor"]
            if not page["hasMore"]:
                return Run(answer["runOrError"]["status"], events)

    def unfinished_runs(self) -> list[str]:
        """Runs that wait or go on."""
        return [run["runId"] for run in self.query(graphql.UNFINISHED_RUNS)["runsOrError"]["results"]]

    def terminate(self, run_id: str, policy: str = "SAFE_TERMINATE") -> None:
        """Cancel a run as the UI does; of a run that is starting it offers MARK_AS_CANCELED_IMMEDIATELY alone."""
        answer = self.query(graphql.TERMINATE_RUN, id=run_id, policy=policy)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def terminate_all(self, run_ids: list[str]) -> None:
        """Cancel those that have not ended meanwhile."""
        self.query(graphql.TERMINATE_RUNS, ids=run_ids)

    def claimed_slots(self, pool: str) -> list[dict[str, Any]]:
        """Claimed slots of a concurrency pool."""
        return self.query(graphql.POOL, pool=pool)["instance"]["concurrencyLimit"]["claimedSlots"]

    def set_slots(self, pool: str, limit: int) -> None:
        """How many steps may claim a concurrency pool at a time."""
        self.query(graphql.SET_POOL_LIMIT, pool=pool, limit=limit)

    def wipe(self, key: str) -> None:
        """Forget an asset's materializations."""
        self.query(graphql.WIPE_ASSETS, ranges=[{"assetKey": {"path": key.split("/")}}])

    def start_sensor(self, name: str) -> str:
        """Turn a sensor on; its id."""
        answer = self.query(graphql.START_SENSOR, sensor={**REPOSITORY, "sensorName": name})["startSensor"]
        assert answer["__typename"] == "Sensor", answer
        return answer["id"]

    def stop_sensor(self, sensor_id: str) -> None:
        """Turn a sensor off."""
        self.query(graphql.STOP_SENSOR, id=sensor_id)

    def launch_backfill(self, job: str, partition: str) -> str:
        """Start a backfill of a job's partition; its id."""
        selector = {"partitionSetName": f"{job}_partition_set", "repositorySelector": REPOSITORY}
        params = {"selector": selector, "partitionNames": [partition]}
        answer = self.query(graphql.LAUNCH_BACKFILL, params=params)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return answer["backfillId"]

    def cancel_backfill(self, backfill_id: str) -> None:
        """Start no more runs of it."""
        self.query(graphql.CANCEL_BACKFILL, id=backfill_id)

    def close(self) -> None:
        """End the port forwarding."""
        if self._forward is not None:
            self._forward.kill()
            self._forward.wait()

    def _ensure_forwarded(self) -> None:
        if self._forward is None or self._forward.poll() is not None:
            command = ["kubectl", "-n", NAMESPACE, "port-forward", f"service/{self._webserver}", f"{self.port}:80"]
            self._forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
