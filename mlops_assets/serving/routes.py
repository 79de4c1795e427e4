"""What the model server answers over HTTP: predictions, labels and explanations, then the table of all other routes.

What is in neither does not exist.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from mlops_assets.ml.errors import MlopsError, RequestRefused
from mlops_assets.serving.api_description import api_description, api_page
from mlops_assets.serving.application import Application
from mlops_assets.serving.explanations import explained
from mlops_assets.serving.feedback import MAX_LABEL_BYTES, read_labels, store_labels
from mlops_assets.serving.http_answers import CONTENT_ENCODING, HTML, Answer, HttpRequest, answer_json
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.prediction_route import PREDICT, PredictionRoute
from mlops_assets.serving.request_body import check_length, unpacked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mlops_assets.serving.application import Message
    from mlops_assets.serving.http_answers import Begun, Headers
    from mlops_assets.serving.request_body import RequestBody
    from mlops_assets.serving.server_state import ServerState

FEEDBACK = re.compile(r"/v1/models/([^/:]+)/feedback")
EXPLAIN = re.compile(r"/v1/models/([^/:]+):explain")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class Routes(Application):
    """The ASGI application of a server.

    `hosts` are the names under which callers may ask for it, all where it is None: a page in a browser can resolve a
    name of its own to this machine. `token` is what whoever may load models sends; nobody may where it is None.
    """

    def __init__(self, state: ServerState, hosts: Sequence[str] | None = None, token: str | None = None) -> None:
        super().__init__(state)
        self.state: ServerState = state
        self.token, self.predict = token, PredictionRoute(state)
        self.hosts = None if hosts is None else frozenset(host.encode() for host in hosts)

    def begun(self, scope: Message, body: bytes) -> Begun | None:
        """The answer to a prediction request."""
        match = PREDICT.fullmatch(scope["path"])
        if match is None:
            return None
        self._check_names(scope)
        return self.predict.begun(match, dict(scope["headers"]), body)

    def _check_names(self, scope: Message) -> None:
        if self.hosts is not None:
            _check_host([value for name, value in scope["headers"] if name == b"host"], self.hosts)
            _check_origin([value for name, value in scope["headers"] if name == b"origin"], self.hosts)

    async def answer(self, scope: Message, body: RequestBody) -> Answer:
        """The answer of the route that is asked for."""
        path, method, headers = scope["path"], scope["method"], dict(scope["headers"])
        self._check_names(scope)
        if match := PREDICT.fullmatch(path):
            _check_method(method, "POST")
            return await self.predict(match, headers, body)
        if match := FEEDBACK.fullmatch(path):
            _check_method(method, "POST")
            return await self.take_labels(match[1], HttpRequest(path, b"", headers), body)
        if match := EXPLAIN.fullmatch(path):
            _check_method(method, "POST")
            return await explained(self.state, match[1], headers, body)
        for allowed, pattern, respond in ROUTES:
            if match := pattern.fullmatch(path):
                _check_method(method, allowed)
                return await respond(self, headers, *match.groups())
        raise RequestRefused(404, "there is no such route; GET /openapi.json names those of the models")

    async def take_labels(self, name: str, request: HttpRequest, body: RequestBody) -> Answer:
        """Store labels of rows that were asked about; of `request` the body is still to come."""
        model, inference_log = self.state.model(name), self.state.inference_log
        if inference_log is None or model.served.log is None:
            raise RequestRefused(404, f"{name} has no inference log")
        check_length(request.headers, MAX_LABEL_BYTES)
        content = await body.up_to(LARGE_BODY)
        if body.whole and len(content) <= LARGE_BODY and CONTENT_ENCODING not in request.headers:
            labels = read_labels(content, model)
        else:
            async with self.state.holding_large():
                whole = request._replace(body=await body.rest_of(content, MAX_LABEL_BYTES))
                labels = await self.state.worked(
                    MAX_LABEL_BYTES, lambda: read_labels(unpacked(whole, MAX_LABEL_BYTES).body, model)
                )
        if not await store_labels(labels, inference_log):
            raise RequestRefused(503, "labels cannot be stored now", (b"retry-after", b"10"))
        return answer_json({"stored": len(labels)})

    async def alive(self, _: Headers) -> Answer:
        """The server runs (V1)."""
        return answer_json({"status": "alive"})

    async def live(self, _: Headers) -> Answer:
        """The server runs (V2)."""
        return answer_json({"live": True})

    async def ready(self, _: Headers) -> Answer:
        """The server has a model that can be asked."""
        ready = self.state.ready
        return answer_json({"ready": ready}, 200 if ready else 503)

    async def model_ready(self, _: Headers, name: str, version: str | None = None) -> Answer:
        """A model can be asked: it answers its golden rows as in training."""
        model = self.state.model(name, version)
        if why := self.state.not_ready(model):
            raise RequestRefused(503, why)
        return answer_json({"name": model.name, "ready": True})

    async def model_names(self, _: Headers) -> Answer:
        """The models that can be asked."""
        return answer_json({"models": sorted(self.state.repository.models)})

    async def server_metadata(self, _: Headers) -> Answer:
        """What the server is."""
        return answer_json(self.state.metadata)

    async def model_metadata(self, _: Headers, name: str, version: str | None) -> Answer:
        """What a model takes and gives."""
        return answer_json(self.state.model(name, version).metadata)

    async def index(self, _: Headers) -> Answer:
        """Which version of each model answers, and which is refused and why."""
        return answer_json(self.state.repository.index())

    async def load(self, headers: Headers, name: str) -> Answer:
        """Bring a model to the state that is declared now; 422 with the reason when a version is refused."""
        if self.token is None:
            raise RequestRefused(404, "models are not loaded into this server")
        if not hmac.compare_digest(headers.get(b"authorization", b""), f"Bearer {self.token}".encode()):
            raise RequestRefused(401, "whoever loads models shows the server's token", (b"www-authenticate", b"Bearer"))
        try:
            await asyncio.to_thread(self.state.repository.load, name)
        except MlopsError as error:
            raise RequestRefused(422, str(error)) from error
        return answer_json({"name": name, "load": True})

    async def metrics(self, headers: Headers) -> Answer:
        """Prometheus' metrics."""
        try:
            encoder, content_type = choose_encoder(headers.get(b"accept", b"").decode("latin-1"))
        except (TypeError, ValueError):  # of a version that is none
            encoder, content_type = choose_encoder("")
        return Answer(200, encoder(REGISTRY), content_type.encode())

    async def openapi(self, _: Headers) -> Answer:
        """How the models are asked, for programs."""
        return answer_json(api_description(self.state.repository.models.values()))

    async def page(self, _: Headers) -> Answer:
        """How the models are asked, for people."""
        return Answer(200, api_page(self.state.repository.models.values()).encode(), HTML)


MODEL = r"/v2/models/([^/]+)(?:/versions/([^/]+))?"
ROUTES: tuple[tuple[str, re.Pattern[str], Callable[..., Awaitable[Answer]]], ...] = tuple(
    (method, re.compile(path), respond)
    for method, path, respond in (
        ("GET", "/", Routes.alive),
        ("GET", "/v1/models", Routes.model_names),
        ("GET", "/v1/models/([^/:]+)", Routes.model_ready),
        ("GET", "/v2", Routes.server_metadata),
        ("GET", "/v2/health/live", Routes.live),
        ("GET", "/v2/health/ready", Routes.ready),
        ("GET", "/v2/models", Routes.model_names),
        ("GET", MODEL, Routes.model_metadata),
        ("GET", f"{MODEL}/ready", Routes.model_ready),
        ("POST", "/v2/repository/index", Routes.index),
        ("POST", "/v2/repository/models/([^/]+)/load", Routes.load),
        ("GET", "/metrics", Routes.metrics),
        ("GET", "/openapi.json", Routes.openapi),
        ("GET", "/docs", Routes.page),
    )
)


def _check_host(given: Sequence[bytes], allowed: frozenset[bytes]) -> None:
    """Of several names each is checked: a proxy may go by another one than we."""
    for host in given or (b"",):
        if _without_port(host) not in allowed:
            raise RequestRefused(421, f"this server is not {host[:63].decode(errors='replace')!r}")


def _check_origin(given: Sequence[bytes], allowed: frozenset[bytes]) -> None:
    """A browser sends what a page posts to any address, and says whose page it is; it keeps the answer from the page
    alone, while labels would be stored.
    """
    for origin in given:
        if _without_port(origin.partition(b"://")[2]) not in allowed:
            whose = origin[:99].decode(errors="replace")
            raise RequestRefused(
                403, f"pages of {whose!r} may not ask this server; a proxy that lets them in sends no Origin"
            )


@lru_cache(256)  # of those that callers make up, too
def _without_port(host: bytes) -> bytes:
    return re.sub(rb":\d*$", b"", host.lower())


def _check_method(method: str, allowed: str) -> None:
    if method != allowed and (method, allowed) != ("HEAD", "GET"):
        raise RequestRefused(405, f"{allowed} is allowed alone", (b"allow", allowed.encode()))
