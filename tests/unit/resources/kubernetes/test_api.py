"""An API server that is away for a moment, overloaded, or whose answers are lost, against a real HTTP server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from urllib3.exceptions import MaxRetryError

from mlops_assets.ml.errors import DeploymentError, TrainingError
from resources.kubernetes import api
from resources.kubernetes.pods import Pods
from resources.serving.kserve_api import InferenceServices

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "rain"},
    "spec": {"predictor": {"minReplicas": 1}},
}


class ApiServer(ThreadingHTTPServer):
    """Keeps objects by path. The next answers are `faults`: a status, or "lost" for what is done and not answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, dict[str, Any]] = {}
        self.faults: list[int | str] = []
        self.requests: list[str] = []
        self.connections = 0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True


class Handler(BaseHTTPRequestHandler):
    """Create, read, replace and delete, as the Kubernetes API answers them."""

    protocol_version = "HTTP/1.1"
    server: ApiServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle_method(self) -> None:
        self.server.requests.append(self.command)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.answer(fault, {"message": "not now"})
            return
        status, found = self.apply(body)
        if fault == "lost":
            self.close_connection = True
            return
        self.answer(status, found)

    do_GET = do_POST = do_PUT = do_DELETE = handle_method  # noqa: N815 - names of the standard library

    def apply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        objects, path = self.server.objects, self.path.partition("?")[0]
        if self.command == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in objects:
                return 409, {"message": "already exists"}
            objects[path] = body | {"metadata": body["metadata"] | {"resourceVersion": "1"}}
            return 201, objects[path]
        if path not in objects:
            return 404, {"message": "not found"}
        if self.command == "PUT":
            known = objects[path]["metadata"]["resourceVersion"]
            if body["metadata"]["resourceVersion"] != known:
                return 409, {"message": "the object has been modified"}
            objects[path] = body | {"metadata": body["metadata"] | {"resourceVersion": str(int(known) + 1)}}
        if self.command == "DELETE":
            return 200, objects.pop(path)
        return 200, objects[path]

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    from kubernetes import client
    from urllib3 import Retry

    found = ApiServer()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{found.server_port}"
    monkeypatch.setattr(client.Configuration, "_default", configuration)
    monkeypatch.setattr(Retry, "get_backoff_time", lambda _: 0)
    monkeypatch.setattr(api.time, "sleep", lambda _: None)
    api.api_client.cache_clear()
    yield found
    api.api_client.cache_clear()
    found.shutdown()


@pytest.mark.parametrize("fault", [503, 429, 500, "lost"])
def test_what_is_asked_is_asked_again_while_the_server_is_away(server: ApiServer, fault: int | str) -> None:
    InferenceServices("mlops").apply(SERVICE)
    server.faults = [fault] * 6
    found = InferenceServices("mlops").read("rain")
    assert found is not None
    assert found["spec"] == SERVICE["spec"]


def test_what_is_not_there_is_not_asked_for_again(server: ApiServer) -> None:
    assert InferenceServices("mlops").read("rain") is None
    assert server.requests == ["GET"]


@pytest.mark.parametrize("fault", [503, "lost"])
def test_what_is_created_is_there_once_though_its_answer_is_lost(server: ApiServer, fault: int | str) -> None:
    server.faults = [fault]
    Pods("mlops").create_training_job({"metadata": {"name": "t"}, "spec": {"workers": 2}})
    assert [found["spec"] for found in server.objects.values()] == [{"workers": 2}]


def test_what_was_there_before_is_no_creation(server: ApiServer) -> None:
    Pods("mlops").create_training_job({"metadata": {"name": "t"}, "spec": {"workers": 2}})
    with pytest.raises(TrainingError, match="already exists"):
        Pods("mlops").create_training_job({"metadata": {"name": "t"}, "spec": {"workers": 3}})


def test_a_creation_is_given_up_where_the_server_stays_away(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib3 import Retry

    server.shutdown()
    server.server_close()
    tries, pauses = list[str](), list[int]()
    monkeypatch.setattr(Retry, "get_backoff_time", lambda retry: pauses.append(len(retry.history)) or 0)

    def create() -> None:
        tries.append("create")
        api.api_client().call_api("/jobs", "POST", body={}, auth_settings=[])

    with pytest.raises(MaxRetryError, match="Connection refused"):
        api.created(create, lambda: None)
    assert tries == ["create"], "the connection has tried already"
    assert len(pauses) == api.TRIES


def test_a_creation_is_given_up_where_the_server_stays_overloaded(server: ApiServer) -> None:
    server.faults = [503] * 100
    with pytest.raises(TrainingError, match="not now"):
        Pods("mlops").create_training_job({"metadata": {"name": "t"}})
    assert server.requests.count("POST") == api.TRIES
    assert server.objects == {}


@pytest.mark.parametrize("fault", [503, "lost"])
def test_a_roll_out_whose_answer_is_lost_is_one(server: ApiServer, fault: int | str) -> None:
    services = InferenceServices("mlops")
    server.faults = [404, fault] if fault == 503 else []  # nothing is there, and the creation is tried again
    services.apply(SERVICE)
    changed = SERVICE | {"spec": {"predictor": {"minReplicas": 2}}}
    server.requests.clear()
    original = services.read
    assert original("rain") is not None
    server.faults = []

    def read_then_fail(name: str) -> dict[str, Any] | None:
        found = original(name)
        if not server.requests.count("PUT"):
            server.faults = [fault]
        return found

    services.read = read_then_fail
    services.apply(changed)
    assert [found["spec"] for found in server.objects.values()] == [changed["spec"]]


def test_what_another_has_changed_is_refused(server: ApiServer) -> None:
    services = InferenceServices("mlops")
    services.apply(SERVICE)
    original = services.read
    stale = original("rain")
    services.apply(SERVICE | {"spec": {"predictor": {"minReplicas": 5}}})
    answers = iter([stale, original("rain")])
    services.read = lambda name: next(answers)
    with pytest.raises(DeploymentError, match="the object has been modified"):
        services.apply(SERVICE | {"spec": {"predictor": {"minReplicas": 2}}})


def test_all_looks_share_one_connection(server: ApiServer) -> None:
    for _ in range(10):
        Pods("mlops").training_job("t")
        InferenceServices("mlops").read("rain")
    assert server.connections == 1
    assert len(server.requests) == 20


def test_outside_of_a_cluster_that_is_said() -> None:
    with pytest.raises(DeploymentError, match="in no pod of the cluster"):
        api.in_cluster()
