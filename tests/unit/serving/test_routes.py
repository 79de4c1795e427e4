"""The hot routes at their limits, as ASGI messages; what they answer over HTTP is in tests/integration."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.serving import routes
from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.model_repository import Repository
from mlops_assets.serving.routes import PredictionRoutes
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


class Client:
    """Sends requests to the routes of a server with one model, `m`."""

    def __init__(self, folder: Path) -> None:
        signature = write_artifact(folder / "m" / "1")
        version = ServedVersion(folder="1", sha256=signature.sha256, version="1")
        Declaration(champion=version).write(folder / "m")
        repository = Repository(folder)
        repository.load_all()
        self.passed_on: list[str] = []
        self.routes = PredictionRoutes(self.kserve, repository)

    async def kserve(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed_on.append(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"{}"})

    def post(
        self, path: str, *chunks: bytes, method: str = "POST", headers: list[tuple[bytes, bytes]] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of the response to a request that comes in these chunks."""
        received = [{"body": chunk, "more_body": index + 1 < len(chunks)} for index, chunk in enumerate(chunks)]
        sent: list[Any] = []

        async def receive() -> Any:
            return received.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": headers or []}
        asyncio.run(self.routes(scope, receive, send))
        return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_a_body_in_chunks_is_read_as_one(client: Client) -> None:
    code, content = client.post("/v1/models/m:predict", b'{"instances": [{"x"', b": 2}", b"]}")
    assert (code, content["predictions"], content["model_version"]) == (200, [4.0], "1")


def test_a_body_over_the_limit_is_refused_however_it_comes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_BODY", 1 << 20)
    chunk = b" " * (1 << 19)
    assert client.post("/v1/models/m:predict", chunk, chunk, b" ")[0] == 413
    assert client.post("/v1/models/m:predict", b'{"instances": [{"x": 2}]}', chunk)[0] == 200


def test_a_large_batch_gets_the_same_answers_as_a_small_one(client: Client) -> None:
    rows = [{"x": float(index)} for index in range(10_000)]
    body = json.dumps({"instances": rows}).encode()
    assert len(body) > routes.LARGE_BODY
    code, content = client.post("/v1/models/m:predict", body)
    assert (code, content["predictions"][:3], len(content["predictions"])) == (200, [0.0, 2.0, 4.0], 10_000)


def test_binary_tensors_are_refused(client: Client) -> None:
    headers = [(b"inference-header-content-length", b"10")]
    code, content = client.post("/v2/models/m/infer", b"{}", headers=headers)
    assert (code, content["error"]) == (400, "binary tensors are not supported; send JSON")


def test_an_error_holds_no_more_of_a_name_than_a_model_may_have(client: Client) -> None:
    for path in (f"/v1/models/{'n' * 5000}:predict", f"/v2/repository/models/{'n' * 5000}/load"):
        code, content = client.post(path, b"{}")
        assert code in (404, 422)
        assert "n" * 63 in content["error"]
        assert "n" * 64 not in content["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models/m:predict"), ("POST", "/v1/models/m:explain"), ("POST", "/v2/repository/models/m/unload")],
)
def test_every_other_route_is_kserves(client: Client, method: str, path: str) -> None:
    client.post(path, b"", method=method)
    assert client.passed_on == [path]


def test_the_index_names_what_is_served(client: Client) -> None:
    entry = {"name": "m", "version": "1", "state": "READY", "reason": ""}
    assert client.post("/v2/repository/index", b"{}") == (200, [entry])


def test_a_compressed_body_is_refused_and_not_taken_for_json(client: Client) -> None:
    body = gzip.compress(b'{"instances": [{"x": 1}]}')
    status, answer = client.post("/v1/models/m:predict", body, headers=[(b"content-encoding", b"gzip")])
    assert (status, answer) == (415, {"error": "the body is compressed; send it without Content-Encoding"})
    plain = client.post("/v1/models/m:predict", gzip.decompress(body), headers=[(b"content-encoding", b"identity")])
    assert plain[0] == 200


def test_a_failure_of_the_server_is_a_500_without_its_cause_which_is_in_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret of the runtime")

    monkeypatch.setattr(OnnxModel, "predict", fail)
    code, content = client.post("/v1/models/m:predict", b'{"instances": [{"x": 2}]}')
    assert (code, content) == (500, {"error": "the server failed; its log says why"})
    [record] = caplog.records
    assert record.getMessage() == "? POST /v1/models/m:predict: 500"
    assert record.exc_info is not None
    assert "the secret of the runtime" in str(record.exc_info[1])
