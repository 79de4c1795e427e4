"""What is told of a pod that fails, by an API server over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.foreign_text import LONGEST_LINE, MOST_LINES
from resources.kubernetes.pod_accounts import account, last_words
from resources.kubernetes.pods import Pods

if TYPE_CHECKING:
    from tests.kubernetes_api import ApiServer

RUNS, HELD = {"running": {}}, {"waiting": {"reason": "CrashLoopBackOff", "message": "wait 40s"}}
ENDED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "kept by Kubernetes\n"}}
NEVER_BEGAN = {"name": "server", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}
CRASHED = {"name": "server", "ready": False, "state": HELD, "lastState": ENDED, "restartCount": 2}
SIDECAR = {"name": "proxy", "ready": True, "state": RUNS}


def pod(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "rain-1"},
        "spec": {"nodeName": "node-7"},
        "status": {"phase": "Running", "containerStatuses": list(containers), **status},
    }


def asked(api_server: ApiServer) -> dict[str, str]:
    """What the last request for a log asked for."""
    from urllib.parse import parse_qsl, urlsplit

    return dict(parse_qsl(urlsplit(api_server.paths[-1]).query))


def test_a_pod_is_told_by_its_containers_its_events_and_its_last_lines(api_server: ApiServer) -> None:
    api_server.logs["rain-1"] = b"\x1b[31mstarting\x1b[0m\n\n\x07its golden rows differ \xff\n"
    api_server.objects["/api/v1/namespaces/mlops/events/e"] = {
        "metadata": {"name": "e"},
        "involvedObject": {"name": "rain-1"},
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off restarting failed container\nserver",
    }
    lines = account(Pods("mlops"), pod(SIDECAR, CRASHED))
    assert lines == [
        "pod rain-1 on node node-7, Running",
        "    proxy runs and is ready",
        "    server waits (CrashLoopBackOff: wait 40s), ended with exit code 1 (Error) before, started again 2 times",
        "its last events:",
        "    Warning BackOff: Back-off restarting failed container server",
        "the last lines of server before it was started again:",
        "    starting",
        "    its golden rows differ \ufffd",
    ]
    assert asked(api_server)["container"] == "server"
    assert asked(api_server)["previous"] == "True"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "pods/log is forbidden"), (404, 'pods "rain-1" not found'), (400, "is waiting to start")],
)
def test_a_log_that_cannot_be_read_leaves_its_reason_and_the_rest(
    api_server: ApiServer, status: int, reason: str
) -> None:
    api_server.logs["rain-1"] = (status, reason)
    lines = account(Pods("mlops"), pod(NEVER_BEGAN))
    assert lines == [
        "pod rain-1 on node node-7, Running",
        "    server waits (ContainerCreating)",
        "its last events:",
        "    (none)",
        "the last lines of server:",
        f"    (no log: {reason})",
    ]


def test_what_kubernetes_keeps_of_a_container_stands_where_its_log_has_gone(api_server: ApiServer) -> None:
    api_server.logs["rain-1"] = (404, "gone")
    assert last_words(Pods("mlops"), pod(CRASHED)).lines == ["kept by Kubernetes"]


def test_events_that_may_not_be_read_leave_the_rest(api_server: ApiServer) -> None:
    api_server.logs["rain-1"] = b"one\n"
    api_server.faults = [403]
    lines = account(Pods("mlops"), pod(CRASHED))
    assert "    (not known: not now)" in lines
    assert lines[-1] == "    one"


@pytest.mark.parametrize("log", [b"x" * 10_000_000, b"x\n" * 1_000_000, b"\x00" * 100_000, b""])
def test_whatever_a_pod_writes_its_account_is_short(api_server: ApiServer, log: bytes) -> None:
    api_server.logs["rain-1"] = log
    words = last_words(Pods("mlops"), pod(NEVER_BEGAN)).lines
    assert 1 <= len(words) <= MOST_LINES
    assert all(line.isprintable() and len(line) <= LONGEST_LINE for line in words)


def test_an_init_container_that_fails_is_what_is_told(api_server: ApiServer) -> None:
    api_server.logs["rain-1"] = b"no such bucket\n"
    failed = {"name": "fetch", "ready": False, "state": {"terminated": {"exitCode": 3}}}
    found = last_words(Pods("mlops"), pod(NEVER_BEGAN, initContainerStatuses=[failed]))
    assert found == ("the last lines of fetch", ["no such bucket"])
    assert asked(api_server)["container"] == "fetch"
