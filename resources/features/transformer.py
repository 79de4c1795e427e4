"""The transformer: fills in the features of views and asks the predictor, as KServe means it.

`python -m resources.features.transformer --port 8087 --predictor http://127.0.0.1:8085 [--grpc-port 8088]`

A process of its own, so that a predictor needs neither Feast nor a database. It reads the online store that the
environment names, and knows nothing of models but what stands there.

One of a single model is ready once it has looked up in each of its views and the predictor has said that it is ready:
one that never can, by its password or a network policy, takes no requests and ends the roll-out. After that neither
makes it unready again. All replicas share one database and one predictor, so that a blip would take all of them away at
once; a caller would then have a gateway's error for as long as probes need to notice that it is over, in the place of
one of ours, which says what is away and when to come back.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import io
import logging
import re
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import orjson
import uvloop

from mlops_assets.ml.errors import BadRequest, RequestRefused
from mlops_assets.serving.application import Application, told
from mlops_assets.serving.grpc_messages import as_http, as_message, pb
from mlops_assets.serving.grpc_server import headers_of, refuse, start_grpc_server
from mlops_assets.serving.http_answers import (
    CONTENT_ENCODING,
    JSON_LENGTH,
    RETRY_SOON,
    Answer,
    HttpRequest,
    answer_json,
    refusal,
)
from mlops_assets.serving.http_server import STOP_S, Server
from mlops_assets.serving.inference_protocol import Tensor, listed, parse_v2, tensors_of, with_tensors
from mlops_assets.serving.limits import LARGE_BODY, Limits
from mlops_assets.serving.log_lines import configure_logging
from mlops_assets.serving.request_body import check_length, unpacked
from mlops_assets.serving.server_state import RequestState
from resources.environment import Environment
from resources.features.look_up import with_features
from resources.features.online_store import OnlineStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mlops_assets.ml.data.feature_view import FeatureView
    from mlops_assets.serving.application import Message
    from mlops_assets.serving.grpc_server import Method
    from mlops_assets.serving.request_body import RequestBody
    from resources.features.online_store import Known, OnlineViews

MODEL = "[a-z][a-z0-9_-]{0,62}"
ASKED = re.compile(rf"/v1/models/({MODEL}):(?:predict|explain)|/v2/models/({MODEL})(?:/versions/[^/]+)?/infer")
READ_AGAIN_S = 10  # after this, views that were registered since are known
NOTHING_HERE = "there is nothing here; features are looked up for predictions alone"
# Hop by hop, or about a body that is another one behind us; gRPC's binary metadata (-bin) can be no header
NOT_PASSED_ON = {
    *(b"host", b"connection", b"transfer-encoding", b"te", b"accept-encoding", b"expect"),
    *(b"content-length", CONTENT_ENCODING),
}
RETURNED = ("retry-after", JSON_LENGTH.decode())
MOST_MODELS = 1_000
CONNECT_TRIES, CONNECT_PAUSE_S = 3, 0.05
READY_PAUSE_S = 2
log = logging.getLogger("mlops_assets.transformer")


class _Views(NamedTuple):
    """A model's views, as they were at a moment of `time.monotonic`."""

    online: OnlineViews
    views: Mapping[str, FeatureView]
    read_at: float


class LookUps:
    """Reads the online store; a model whose store cannot be read any more is opened anew, once for each request."""

    def __init__(self, store: OnlineStore) -> None:
        self._store, self._models = store, dict[str, _Views]()

    def try_views(self, model: str) -> None:
        """Look up in each view of a model, about nobody, so that the first request finds what it needs open."""
        self.fill_in(model, None)
        known = self._models.get(model)
        if known is None:
            return
        try:
            for name, view in known.views.items():
                known.online.read(name, [dict.fromkeys(view.entity, "")])
        except Exception:
            self._models.pop(model, None)  # as `fill_in` says
            raise

    def fill_in(self, model: str, content: Any) -> Any:
        """A request with the features of the model's views; as it is where the model has none."""
        try:
            return self._filled_in(model, content)
        except BadRequest:
            raise
        except Exception:
            # Feast keeps a connection that has broken, and gives none back to its pool after an error
            if self._models.pop(model, None) is None:
                raise
            log.exception("the store of %s is opened again", model)
            return self._filled_in(model, content)

    def _filled_in(self, model: str, content: Any) -> Any:
        known = self._models.get(model)
        if known is None or time.monotonic() > known.read_at + READ_AGAIN_S:
            online = known.online if known else self._store.of(model) if self._store.has(model) else None
            if online is None:
                return content
            if len(self._models) >= MOST_MODELS:  # names that callers make up are known here too
                self._models.clear()
            known = self._models[model] = _Views(online, online.views(), time.monotonic())
        online = known.online

        def read(view: str, entities: Sequence[Mapping[str, str]]) -> Sequence[Known]:
            return online.read(view, entities)

        return with_features(content, known.views, read, datetime.now(UTC).replace(tzinfo=None))


class Transformer(Application):
    """The ASGI application; for one model alone, if that is named."""

    def __init__(
        self,
        look_ups: LookUps,
        predictor: str,
        session: aiohttp.ClientSession,
        limits: Limits,
        model: str | None = None,
    ) -> None:
        state = RequestState(limits)
        super().__init__(state)
        self.state: RequestState = state
        self._look_ups, self._predictor, self._session = look_ups, predictor, session
        self._model = model
        self._warm = asyncio.create_task(self._warm_up())

    async def _warm_up(self) -> None:
        """Get ready: the import takes seconds, for which no caller should wait, and a store may be away."""
        await asyncio.to_thread(importlib.import_module, "feast")
        if self._model:
            look_ups, model = self._look_ups, self._model
            await _until(lambda: asyncio.to_thread(look_ups.try_views, model), f"the views of {model} cannot be read")
            await _until(lambda: self._ask_whether_ready(model), f"the predictor of {model} is not ready")

    async def _ask_whether_ready(self, model: str) -> None:
        async with self._session.get(f"{self._predictor}/v2/models/{model}/ready") as answer:
            answer.raise_for_status()

    @property
    def ready(self) -> bool:
        """It has read what it needs, and is not about to stop."""
        return self._warm.done() and not self.state.draining

    async def answer(self, scope: Message, body: RequestBody) -> Answer:
        """The predictor's answer to a request with its features."""
        path, method, headers = scope["path"], scope["method"], dict(scope["headers"])
        if method == "GET" and path == "/v2/health/live":
            return answer_json({"live": True})
        if method == "GET" and path == "/v2/health/ready":
            return answer_json({"ready": self.ready}, 200 if self.ready else 503)
        if method != "POST":
            raise RequestRefused(404, NOTHING_HERE)
        self.model_of(path)
        limit = self.state.limits.body_bytes
        check_length(headers, limit)
        request = HttpRequest(path, await body.up_to(LARGE_BODY), headers)
        if body.whole and len(request.body) <= LARGE_BODY and CONTENT_ENCODING not in headers:
            return await self.asked(request)
        async with self.state.holding_large():
            whole = request._replace(body=await body.rest_of(request.body, limit))
            return await self.asked(await self.state.worked(limit, partial(unpacked, whole, limit)))

    def model_of(self, path: str) -> str:
        """The model that is asked.

        Raises:
            RequestRefused: no features are looked up for it.
        """
        match = ASKED.fullmatch(path)
        if match is None:
            raise RequestRefused(404, NOTHING_HERE)
        model = match[1] or match[2]
        if model != (self._model or model):
            raise RequestRefused(404, f"features of {self._model} alone are looked up here")
        return model

    async def asked(self, request: HttpRequest) -> Answer:
        """The predictor's answer to a whole request.

        Raises:
            BadRequest: it has what is looked up, or not what it is looked up by.
            RequestRefused: no features are looked up for it, or the store or the predictor does not answer.
            ServerBusy: there are too many large ones.
        """
        model = self.model_of(request.path)
        looked_up = partial(self._filled_in, model, request)
        is_large = len(request.body) > LARGE_BODY
        request = await (self.state.in_turn(looked_up) if is_large else asyncio.to_thread(looked_up))
        return await self._predicted(request)

    def _filled_in(self, model: str, request: HttpRequest) -> HttpRequest:
        content, binary = parse_v2(request.body, request.json_bytes)
        if binary is None:
            return request._replace(body=orjson.dumps(self._features_of(model, content)))
        given = tensors_of(content, "inputs", binary)
        seen = [tensor._asdict() | {"data": listed(tensor, f"column {tensor.name[:63]}")} for tensor in given]
        found = self._features_of(model, content | {"inputs": seen})
        # What the caller sent as bytes goes on as them: JSON has no infinity, which the predictor refuses
        sent = {tensor.name: tensor.data for tensor in given}
        tensors = [Tensor(**tensor | {"data": sent.get(tensor["name"], tensor["data"])}) for tensor in found["inputs"]]
        body, json_bytes = with_tensors(found, "inputs", tensors)
        return request._replace(body=body, headers={**request.headers, JSON_LENGTH: str(json_bytes).encode()})

    def _features_of(self, model: str, content: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._look_ups.fill_in(model, content)
        except BadRequest:
            raise
        except Exception as error:
            log.exception("a look-up failed")
            raise RequestRefused(503, "the feature store does not answer", *RETRY_SOON) from error

    async def _predicted(self, request: HttpRequest) -> Answer:
        """What the predictor answers; it is asked again only where nothing has reached it."""
        path, body, headers = request
        passed_on = {name.decode(): value.decode("latin-1") for name, value in headers.items() if _goes_on(name)}
        for attempt in range(1, CONNECT_TRIES + 1):
            try:
                data = body if len(body) <= LARGE_BODY else io.BytesIO(body)  # which is sent piece by piece
                async with self._session.post(f"{self._predictor}{path}", data=data, headers=passed_on) as answer:
                    content = await answer.read()
                    given = {name.lower(): value for name, value in answer.headers.items()}
                    named = [
                        (name.encode(), value.encode("latin-1"))
                        for name, value in given.items()
                        if name.startswith("x-") or name in RETURNED
                    ]
                    kind = given.get("content-type", "application/json").encode()
                    return Answer(answer.status, content, kind, named)
            except aiohttp.ClientConnectorError:
                if attempt == CONNECT_TRIES:
                    raise RequestRefused(503, "the predictor cannot be reached", *RETRY_SOON) from None
                await asyncio.sleep(CONNECT_PAUSE_S * attempt)
            except TimeoutError:
                raise RequestRefused(504, "the predictor did not answer in time") from None
            except aiohttp.ClientError as error:
                raise RequestRefused(502, f"the predictor did not answer ({type(error).__name__})") from None
        raise AssertionError


class Inference:
    """The methods of the service over gRPC."""

    def __init__(self, transformer: Transformer) -> None:
        self._transformer = transformer

    @property
    def methods(self) -> Mapping[str, Method]:
        """Each by the name that the protocol has for it."""
        return {"ServerLive": self.server_live, "ServerReady": self.server_ready, "ModelInfer": self.model_infer}

    async def server_live(self, _: Any, __: Any) -> Any:
        """It runs."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: Any, __: Any) -> Any:
        """It has read what it needs, and is not about to stop."""
        return pb.ServerReadyResponse(ready=self._transformer.ready)

    async def model_infer(self, request: Any, context: Any) -> Any:
        """The predictor's answer to a request with its features."""
        state, size = self._transformer.state, request.ByteSize()

        async def asked() -> Answer:
            async with state.holding_large() if size > LARGE_BODY else nullcontext():
                return await self._transformer.asked(
                    await state.worked(size, partial(as_http, request, headers_of(context)))
                )

        answer = await told(asked(), lambda: f"{context.peer()} ModelInfer {request.model_name[:63]!r}")
        if answer.code != 200:
            await refuse(context, answer)
        raw = bool(request.raw_input_contents)
        try:
            return await state.worked(len(answer.body), partial(as_message, answer, raw=raw))
        except ValueError as error:
            await refuse(context, refusal(502, f"the predictor's answer is none: {error}"))


def _goes_on(name: bytes) -> bool:
    return name not in NOT_PASSED_ON and not name.endswith(b"-bin")


async def _until(done: Callable[[], Awaitable[None]], otherwise: str) -> None:
    """Try until it is done, and say each time why it is not."""
    while True:
        try:
            await done()
        except Exception as error:
            log.error("%s: %s", otherwise, error)
            await asyncio.sleep(READY_PAUSE_S)
        else:
            return


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # The second names are those by which KServe knows them
    parser.add_argument("--predictor", "--predictor_host", required=True, help="the server that answers")
    parser.add_argument("--port", "--http_port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, help="V2 over gRPC too")
    parser.add_argument("--model", "--model_name", help="look features up for this model alone, and be ready with them")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--deadline", type=float, default=10, help="seconds that the predictor may take")
    parser.add_argument("--drain", type=float, default=0, help="seconds to go on answering after SIGTERM")
    options = parser.parse_args(arguments)
    configure_logging()
    logging.getLogger("feast").setLevel(logging.WARNING)
    environment = Environment.read()
    limits = Limits(body_bytes=environment.serving_max_body_mib << 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options, LookUps(OnlineStore.in_environment(environment)), limits))


async def _serve(options: argparse.Namespace, look_ups: LookUps, limits: Limits) -> None:
    timeout = aiohttp.ClientTimeout(total=options.deadline, sock_connect=1)
    connector = aiohttp.TCPConnector(limit=100, keepalive_timeout=30)
    cookies = aiohttp.DummyCookieJar()  # one that a gateway sets for a caller's request is not the next one's
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, auto_decompress=False, cookie_jar=cookies
    ) as session:
        predictor = options.predictor if "://" in options.predictor else f"http://{options.predictor}"
        application = Transformer(look_ups, predictor.rstrip("/"), session, limits, options.model)
        grpc_server = None
        if options.grpc_port is not None:
            methods = Inference(application).methods
            grpc_server = await start_grpc_server(methods, application.state, options.host, options.grpc_port)

        async def stopped() -> None:
            if grpc_server:
                await grpc_server.stop(STOP_S)
            await session.close()

        await Server(application, options.host, options.port, options.drain, stopped).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
