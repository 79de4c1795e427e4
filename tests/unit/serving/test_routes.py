"""Routes at their limits, as ASGI messages; what they answer over HTTP is in tests/integration."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.limits import LARGE_BODY, Limits
from mlops_assets.serving.model_repository import Repository
from mlops_assets.serving.routes import LOCAL_HOSTS, ROUTES, Routes
from mlops_assets.serving.server_state import SERVER_VERSION, ServerState
from tests.artifacts import write_artifact

V1, V2 = "/v1/models/m:predict", "/v2/models/m/infer"
GOOD = b'{"instances": [{"x": 2}]}'


class Client:
    """Sends requests to the routes of a server with one model, `m`."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        signature = write_artifact(folder / "m" / "1")
        version = ServedVersion(folder="1", sha256=signature.sha256, version="1")
        Declaration(champion=version).write(folder / "m")
        repository = Repository(folder)
        repository.load_all()
        self.state = ServerState(repository, limits)
        self.routes = Routes(self.state)

    async def ask(
        self, path: str, *chunks: bytes, method: str = "POST", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the response to a request that comes in these chunks."""
        received = [
            {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
            for index, chunk in enumerate(chunks or (b"",))
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return received.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        await self.routes({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, sent[1]["body"]

    def raw(self, path: str, *chunks: bytes, **options: Any) -> tuple[int, dict[str, str], bytes]:
        """As `ask`, by itself."""
        return asyncio.run(self.ask(path, *chunks, **options))

    def post(self, path: str, *chunks: bytes, **options: Any) -> tuple[int, Any]:
        """Status and JSON of the response."""
        code, _, body = self.raw(path, *chunks, **options)
        return code, json.loads(body)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_a_body_in_chunks_is_read_as_one(client: Client) -> None:
    code, content = client.post(V1, b'{"instances": [{"x"', b": 2}", b"]}")
    assert (code, content["predictions"], content["model_version"]) == (200, [4.0], "1")


def test_a_body_over_the_limit_is_refused_however_it_comes(tmp_path: Path) -> None:
    client = Client(tmp_path, Limits(body_bytes=1 << 20))
    chunk = b" " * (1 << 19)
    expected = (413, {"error": "the body is larger than 1 MiB"})
    assert client.post(V1, chunk, chunk, b" ") == expected
    assert client.post(V1, chunk + chunk + b" ") == expected
    assert client.post(V1, headers={"content-length": str((1 << 20) + 1)}) == expected
    assert client.post(V1, GOOD, chunk)[0] == 200


def test_a_body_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    client = Client(tmp_path, Limits(body_bytes=1 << 20))
    code, content = client.post(V1, gzip.compress(b" " * (5 << 20)), headers={"content-encoding": "gzip"})
    assert (code, content["error"]) == (413, "the body is larger than 1 MiB")


def test_a_large_batch_gets_the_same_answers_as_a_small_one(client: Client) -> None:
    rows = [{"x": float(index)} for index in range(10_000)]
    body = json.dumps({"instances": rows}).encode()
    assert len(body) > LARGE_BODY
    code, content = client.post(V1, body)
    assert (code, content["predictions"][:3], len(content["predictions"])) == (200, [0.0, 2.0, 4.0], 10_000)


def test_of_large_bodies_only_so_many_are_held_at_a_time_and_small_ones_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(tmp_path, Limits(held_bodies=2, large_bodies=1, large_body_wait_s=0.05))
    large = json.dumps({"instances": [{"x": 1.0}] * 10_000}).encode()
    predict = OnnxModel.predict

    def slow(self: OnnxModel, inputs: Any) -> Any:
        time.sleep(0.3 * (len(inputs["x"]) > 1))
        return predict(self, inputs)

    monkeypatch.setattr(OnnxModel, "predict", slow)

    async def all_at_once() -> list[int]:
        asked = [client.ask(V1, large), client.ask(V1, large), client.ask(V1, large), client.ask(V1, GOOD)]
        return [code for code, _, _ in await asyncio.gather(*asked)]

    first, waited, refused, small = asyncio.run(all_at_once())
    assert (first, waited, refused, small) == (200, 503, 503, 200)
    assert client.raw(V1, large)[0] == 200


def test_a_caller_that_goes_leaves_no_turn_before_its_work_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else as many large requests as callers like would be worked on at once."""
    client = Client(tmp_path, Limits(held_bodies=8, large_bodies=1, large_body_wait_s=5))
    large = json.dumps({"instances": [{"x": 1.0}] * 10_000}).encode()
    predict, lock, most = OnnxModel.predict, threading.Lock(), [0, 0]

    def slow(self: OnnxModel, inputs: Any) -> Any:
        with lock:
            most[0] += 1
            most[1] = max(most)
        time.sleep(0.2)
        with lock:
            most[0] -= 1
        return predict(self, inputs)

    monkeypatch.setattr(OnnxModel, "predict", slow)

    async def hurried() -> int:
        asked = [asyncio.create_task(client.ask(V1, large)) for _ in range(3)]
        for task in asked:
            await asyncio.sleep(0.1)
            task.cancel()
        code, _, _ = await client.ask(V1, large)
        return code

    assert asyncio.run(hurried()) == 200
    assert most == [0, 1]


def test_a_gzipped_body_is_read(client: Client) -> None:
    assert client.post(V1, gzip.compress(GOOD), headers={"content-encoding": "GZIP"})[1]["predictions"] == [4.0]


@pytest.mark.parametrize(
    ("encoding", "body", "code", "message"),
    [
        ("br", GOOD, 415, "Content-Encoding must be gzip or identity"),
        ("gzip", GOOD, 400, "the body is not gzip"),
        ("gzip", gzip.compress(GOOD)[:-3], 400, "not one whole gzip stream"),
        ("gzip", gzip.compress(GOOD) * 2, 400, "not one whole gzip stream"),
    ],
    ids=["another", "none", "half", "twice"],
)
def test_a_body_in_another_form_than_its_header_says_is_refused(
    client: Client, encoding: str, body: bytes, code: int, message: str
) -> None:
    found, content = client.post(V1, body, headers={"content-encoding": encoding})
    assert (found, message in content["error"]) == (code, True)


def test_an_answer_says_in_its_headers_which_version_gave_it_and_to_which_request(client: Client) -> None:
    for path, body in ((V1, GOOD), (V2, v2("FP32", [2]))):
        code, headers, _ = client.raw(path, body, headers={"x-request-id": "mine"})
        assert (code, headers["x-model-version"], headers["x-request-id"]) == (200, "1", "mine")
    assert client.raw(V1, b'{"id": "other", "instances": [{"x": 2}]}')[1]["x-request-id"] == "other"
    assert len(client.raw(V1, GOOD)[1]["x-request-id"]) == 32


def v2(datatype: str, data: list[Any], **more: Any) -> bytes:
    tensor = {"name": "x", "shape": [len(data), 1], "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def test_binary_tensors_are_answered_as_they_are_asked_for(client: Client) -> None:
    data = np.array([2, 3], dtype="<f4").tobytes()
    tensor = {"name": "x", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    code, found, body = client.raw(V2, head + data, headers=headers)
    assert (code, found["content-type"]) == (200, "application/octet-stream")
    length = int(found["inference-header-content-length"])
    [output] = json.loads(body[:length])["outputs"]
    assert (output["shape"], output["parameters"]) == ([2, 1], {"binary_data_size": 8})
    assert np.frombuffer(body[length:], "<f4").tolist() == [4, 6]


@pytest.mark.parametrize("length", ["-1", "9999", "1e2", "x", "0" * 5_000, ""])
def test_a_length_that_the_json_of_a_body_cannot_have_is_refused(client: Client, length: str) -> None:
    code, content = client.post(V2, v2("FP32", [1]), headers={"inference-header-content-length": length})
    assert (code, content["error"].startswith("Inference-Header-Content-Length")) == (400, True)


def test_an_output_that_is_not_there_is_refused_and_one_that_is_comes_alone(client: Client) -> None:
    code, content = client.post(V2, v2("FP32", [1], outputs=[{"name": "nope"}]))
    assert (code, content["error"]) == (400, "there is no output nope; there is prediction.")
    code, content = client.post(V2, v2("FP32", [1], outputs=[{"name": "prediction"}]))
    assert [output["name"] for output in content["outputs"]] == ["prediction"]


def test_an_error_holds_no_more_of_a_name_than_a_model_may_have(client: Client) -> None:
    client.routes.token = "t"
    for path in (f"/v1/models/{'n' * 5000}:predict", f"/v2/repository/models/{'n' * 5000}/load"):
        code, content = client.post(path, b"{}", headers={"authorization": "Bearer t"})
        assert code in (404, 422)
        assert "n" * 63 in content["error"]
        assert "n" * 64 not in content["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/models/m/unload",
        "/v1/models/m:explain",
        "/v2/models/m/unload",
        "/openai/v1/completions",
        "/v1/models/m",
        "/redoc",
        "/v1/models/m:predict/",
        "//v1/models/m:predict",
        "/v1/models/m:predict\n",
        "/v2/models/m/versions//infer",
    ],
)
def test_what_is_not_in_the_table_does_not_exist(client: Client, path: str) -> None:
    code, content = client.post(path, b"{}")
    assert code == (405 if path == "/v1/models/m" else 404)
    assert set(content) == {"error"}
    assert client.post(V1, GOOD)[0] == 200


def test_another_method_is_told_the_one_that_is_allowed(client: Client) -> None:
    for path, allowed in ((V1, "POST"), (V2, "POST"), ("/metrics", "GET"), ("/v2/repository/index", "POST")):
        for method in {"GET", "POST", "PUT", "DELETE", "OPTIONS"} - {allowed}:
            code, headers, _ = client.raw(path, method=method)
            assert (code, headers["allow"]) == (405, allowed)


def test_every_route_answers(client: Client) -> None:
    filled = {"/v2/models/([^/]+)(?:/versions/([^/]+))?": "/v2/models/m/versions/1", "([^/:]+)": "m", "([^/]+)": "m"}
    for method, pattern, _ in ROUTES:
        path = pattern.pattern
        for group, value in filled.items():
            path = path.replace(group, value)
        code, _, body = client.raw(path, method=method)
        assert (code, bool(body)) == (404 if path.endswith("/load") else 200, True), path


def test_a_version_that_is_not_served_is_none(client: Client) -> None:
    code, content = client.post("/v2/models/m/versions/2/infer", v2("FP32", [1]))
    assert (code, content["error"]) == (404, "version 1 of m is served, and not '2'")
    assert client.post("/v2/models/m/versions/1/infer", v2("FP32", [1]))[0] == 200


def test_only_who_has_the_token_loads_models(client: Client) -> None:
    load = "/v2/repository/models/m/load"
    assert client.post(load, b"{}", headers={"authorization": "Bearer "})[0] == 404
    client.routes.token = "secret"
    for wrong in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}, {"authorization": "Bearer "}):
        assert client.post(load, b"{}", headers=wrong)[0] == 401
    assert client.post(load, b"{}", headers={"authorization": "Bearer secret"}) == (200, {"name": "m", "load": True})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8085", "LocalHost:1", "[::1]:8085"])
def test_this_machine_is_asked_by_its_own_names(client: Client, host: str) -> None:
    client.routes = Routes(client.state, LOCAL_HOSTS)
    assert client.post(V1, GOOD, headers={"host": host})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8085", "", ":80"])
def test_a_name_that_somebody_else_resolves_to_this_machine_is_refused(client: Client, host: str) -> None:
    client.routes = Routes(client.state, LOCAL_HOSTS)
    assert client.post(V1, GOOD, headers={"host": host})[0] == 421


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1:8085", "http://[::1]", "https://LOCALHOST"]
)
def test_pages_of_this_machine_may_ask(client: Client, origin: str) -> None:
    client.routes = Routes(client.state, LOCAL_HOSTS)
    assert client.post(V1, GOOD, headers={"host": "localhost", "origin": origin})[0] == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost.evil.example", "null", "", "localhost", "://"]
)
@pytest.mark.parametrize("path", [V1, "/v1/models/m/feedback", "/v2/repository/models/m/load"])
def test_a_page_of_another_machine_may_not_ask_through_a_browser(client: Client, path: str, origin: str) -> None:
    client.routes = Routes(client.state, LOCAL_HOSTS)
    headers = {"host": "localhost", "origin": origin, "content-type": "text/plain"}
    code, content = client.post(path, GOOD, headers=headers)
    assert (code, "may not ask this server" in content["error"]) == (403, True)


def test_a_server_for_everywhere_leaves_origins_to_its_gateway(client: Client) -> None:
    assert client.post(V1, GOOD, headers={"host": "flights.example", "origin": "https://shop.example"})[0] == 200


@pytest.mark.parametrize("names", [(b"evil.example", b"localhost"), (b"localhost", b"evil.example")])
def test_of_two_names_neither_may_be_somebody_elses(client: Client, names: tuple[bytes, bytes]) -> None:
    client.routes = Routes(client.state, LOCAL_HOSTS)
    sent = list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/v2", "headers": [(b"host", name) for name in names]}
    asyncio.run(client.routes(scope, receive, send))
    assert sent[0]["status"] == 421


@pytest.mark.parametrize("accepted", ["application/openmetrics-text;version=abc", "text/plain;version=1.x.0", "é;=,;"])
def test_metrics_come_in_the_plain_form_where_the_wanted_one_is_none(client: Client, accepted: str) -> None:
    code, headers, _ = client.raw("/metrics", method="GET", headers={"accept": accepted})
    assert (code, headers["content-type"].startswith("text/plain")) == (200, True)


def test_a_server_that_is_about_to_stop_answers_is_not_ready_and_ends_connections(client: Client) -> None:
    client.state.draining = True
    code, headers, _ = client.raw(V1, GOOD)
    assert (code, headers["connection"]) == (200, "close")
    for path in ("/v2/health/ready", "/v2/models/m/ready", "/v1/models/m"):
        assert client.raw(path, method="GET")[0] == 503
    assert client.raw("/v2/health/live", method="GET")[0] == 200


def test_a_model_whose_proof_does_not_hold_any_more_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/v2/health/ready", "/v2/models/m/versions/1/ready"):
        assert client.raw(path, method="GET")[0] == 200
    assert client.raw("/v2/models/m/versions/2/ready", method="GET")[0] == 404, "another version is not ready"
    monkeypatch.setattr(client.state.proofs, "fault", lambda _: "it answers its golden rows differently")
    for path in ("/v2/health/ready", "/v2/models/m/versions/1/ready", "/v1/models/m"):
        assert client.raw(path, method="GET")[0] == 503
    assert client.raw("/v2/health/live", method="GET")[0] == 200, "who is ended for it would be ended again and again"


def test_the_index_names_what_is_served(client: Client) -> None:
    entry = {"name": "m", "version": "1", "state": "READY", "reason": ""}
    assert client.post("/v2/repository/index", b"{}") == (200, [entry])


def test_a_caller_that_goes_before_its_body_has_come_is_not_answered(client: Client) -> None:
    sent = list[object]()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    asyncio.run(client.routes({"type": "http", "method": "POST", "path": V1, "headers": []}, receive, send))
    assert sent == []


def test_the_version_of_the_server_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["version"] == SERVER_VERSION


def test_a_failure_of_the_server_is_a_500_without_its_cause_which_is_in_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret of the runtime")

    monkeypatch.setattr(OnnxModel, "predict", fail)
    code, content = client.post(V1, GOOD)
    assert (code, content) == (500, {"error": "the server failed; its log says why"})
    [record] = caplog.records
    assert record.getMessage() == f"? POST {V1}: 500"
    assert record.exc_info is not None
    assert "the secret of the runtime" in str(record.exc_info[1])
