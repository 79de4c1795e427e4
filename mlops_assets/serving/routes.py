"""The hot routes of the model server, in front of KServe's own: predict (V1), infer (V2) and load, and the index.

KServe's handlers pass every request through FastAPI, pydantic models and header copies; here a request is parsed once,
checked against the model's signature and answered. All other routes are KServe's.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client import Counter, Histogram

from mlops_assets.ml.errors import BadRequest, MlopsError
from mlops_assets.serving.log_lines import LONGEST_LINE
from mlops_assets.serving.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from mlops_assets.serving.model_repository import Repository

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

V1 = re.compile(r"^/v1/models/([^/:]+):predict$")
V2 = re.compile(r"^/v2/models/([^/]+)/infer$")
LOAD = re.compile(r"^/v2/repository/models/([^/]+)/load$")
INDEX = "/v2/repository/index"
MAX_BODY = 64 << 20
LARGE_BODY = 64 << 10
JSON = (b"content-type", b"application/json")

SECONDS = Histogram(
    "model_request_duration_seconds",
    "Time from the whole request to its answer",
    ["model"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
REQUESTS = Counter("model_requests_total", "Requests by model and status", ["model", "code"])
log = logging.getLogger("mlops_assets.serving")


class Response:
    """Passes a response on, and remembers its status and, where that is an error, what its body begins with."""

    def __init__(self, send: Send) -> None:
        self._send, self.code, self.reason = send, 0, b""

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.code = message["status"]
        elif self.code >= 400 and not self.reason:
            self.reason = message.get("body", b"")[:LONGEST_LINE]
        await self._send(message)


class PredictionRoutes:
    """ASGI middleware that answers the hot routes and passes everything else on.

    Each request that is answered by an error has one line in the log; the others have none.
    """

    def __init__(self, app: App, repository: Repository) -> None:
        self.app, self.repository = app, repository

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        response = Response(send)
        try:
            await self.respond(scope, receive, response.send)
        except Exception:
            log.exception("%s: 500", described(scope))
            if not response.code:
                await send_json(send, 500, {"error": "the server failed; its log says why"})
        else:
            if response.code >= 400:
                reason = response.reason.decode(errors="backslashreplace")
                log.warning("%s: %d %s", described(scope), response.code, reason)

    async def respond(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request of a hot route, and have KServe answer all others."""
        path: str = scope["path"]
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        for protocol, pattern in (("v2", V2), ("v1", V1)):
            if match := pattern.match(path):
                await self.predict(match[1], protocol, scope, receive, send)
                return
        if match := LOAD.match(path):
            await self.load(match[1], receive, send)
        elif path == INDEX:
            await read_body(receive)
            await send_json(send, 200, self.repository.index())
        else:
            await self.app(scope, receive, send)

    async def predict(self, name: str, protocol: str, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a prediction request of either protocol, and count it."""
        model = self.repository.get_model(name)
        body = await read_body(receive)
        start = time.perf_counter()
        if not isinstance(model, Predictor):
            await send_json(send, 404, {"error": f"there is no model {name[:63]!r} here"})
            return
        if body is None:
            code, content = 413, orjson.dumps({"error": f"the body is larger than {MAX_BODY >> 20} MiB"})
        elif any(key == b"content-encoding" and value.lower() != b"identity" for key, value in scope["headers"]):
            code, content = 415, orjson.dumps({"error": "the body is compressed; send it without Content-Encoding"})
        elif any(key == b"inference-header-content-length" for key, _ in scope["headers"]):
            code, content = 400, orjson.dumps({"error": "binary tensors are not supported; send JSON"})
        elif len(body) > LARGE_BODY:
            # A large batch is answered in a thread, so that small ones do not wait for it
            code, content = await asyncio.to_thread(response_to, body, model, protocol)
        else:
            code, content = response_to(body, model, protocol)
        SECONDS.labels(name).observe(time.perf_counter() - start)
        REQUESTS.labels(name, code).inc()
        await send_bytes(send, code, content)

    async def load(self, name: str, receive: Receive, send: Send) -> None:
        """Bring a model to the state that is declared now; 422 with the reason when a version is refused."""
        await read_body(receive)
        try:
            await asyncio.to_thread(self.repository.load, name)
        except MlopsError as error:
            await send_json(send, 422, {"error": str(error)})
            return
        await send_json(send, 200, {"name": name, "load": True})


def described(scope: Message) -> str:
    """Who asked for what."""
    client = scope.get("client") or ("?",)
    return f"{client[0]} {scope['method'][:10]} {scope['path'][:200]}"


def response_to(body: bytes, model: Predictor, protocol: str) -> tuple[int, bytes]:
    """Status and JSON for a prediction request: 200, or 400 with the reason when it does not fit the model."""
    try:
        inputs, request_id = model.decode_request(body, protocol)
    except BadRequest as error:
        return 400, orjson.dumps({"error": str(error)})
    return 200, model.encode_response(model.onnx.predict(inputs), request_id, protocol)


async def read_body(receive: Receive) -> bytes | None:
    """The whole body of a request, or None when it is larger than MAX_BODY; no more than that is kept in memory."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            parts = []
    return None if size > MAX_BODY else b"".join(parts)


async def send_json(send: Send, code: int, content: dict[str, Any] | list[dict[str, str]]) -> None:
    """Send a response of plain values."""
    await send_bytes(send, code, orjson.dumps(content))


async def send_bytes(send: Send, code: int, content: bytes) -> None:
    """Send a response whose JSON is encoded already."""
    headers = [JSON, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": content})
