"""The transformer: fills in the features of views and asks the predictor, as KServe means it.

`python -m resources.features.transformer --port 8087 --predictor http://127.0.0.1:8085`

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
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import orjson
import uvloop

from mlops_assets.ml.errors import BadRequest, RequestRefused
from mlops_assets.serving.http_answers import JSON_LENGTH, Answer, answer_json, refusal
from mlops_assets.serving.http_server import Server
from mlops_assets.serving.inference_protocol import parse_json
from mlops_assets.serving.limits import Limits
from mlops_assets.serving.log_lines import configure_logging
from mlops_assets.serving.request_body import RequestBody
from resources.environment import Environment
from resources.features.look_up import with_features
from resources.features.online_store import OnlineStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mlops_assets.ml.data.feature_view import FeatureView
    from mlops_assets.serving.http_answers import Headers
    from mlops_assets.serving.request_body import Receive
    from resources.features.online_store import Known, OnlineViews

ASKED = re.compile(r"/v1/models/([a-z][a-z0-9_-]{0,62}):(?:predict|explain)|/v2/models/([a-z][a-z0-9_-]{0,62})/infer")
READ_AGAIN_S = 10  # after this, views that were registered since are known
# Hop by hop, or about a body that is another one behind us
NOT_PASSED_ON = {b"host", b"connection", b"content-length", b"transfer-encoding", b"accept-encoding", b"expect"}
RETURNED = ("content-type", "retry-after")
MOST_MODELS = 1_000
CONNECT_TRIES, CONNECT_PAUSE_S = 3, 0.05
READY_PAUSE_S = 2
log = logging.getLogger("mlops_assets.transformer")


class _State:
    """What the server asks of its application."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.draining = limits, False


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


class Transformer:
    """The ASGI application; for one model alone, if that is named."""

    def __init__(
        self,
        look_ups: LookUps,
        predictor: str,
        session: aiohttp.ClientSession,
        limits: Limits,
        model: str | None = None,
    ) -> None:
        self.state, self._look_ups, self._predictor, self._session = _State(limits), look_ups, predictor, session
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

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        body = RequestBody(receive)
        try:
            answer = await self._answered(scope, body)
            if answer.code >= 400:
                await body.discard()
        except ConnectionError:
            return  # nobody waits for it
        headers = [(b"content-type", answer.content_type), (b"content-length", str(len(answer.body)).encode())]
        start = {"type": "http.response.start", "status": answer.code, "headers": [*headers, *answer.headers]}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    async def _answered(self, scope: Any, body: RequestBody) -> Answer:
        path, headers = scope["path"], dict(scope["headers"])
        try:
            if scope["method"] == "GET" and path == "/v2/health/live":
                return answer_json({"live": True})
            if scope["method"] == "GET" and path == "/v2/health/ready":
                ready = self._warm.done() and not self.state.draining
                return answer_json({"ready": ready}, 200 if ready else 503)
            match = ASKED.fullmatch(path)
            if match is None or scope["method"] != "POST":
                raise RequestRefused(404, "there is nothing here; features are looked up for predictions alone")
            model = match[1] or match[2]
            if model != (self._model or model):
                raise RequestRefused(404, f"features of {self._model} alone are looked up here")
            return await self._transformed(model, path, headers, body)
        except BadRequest as error:
            return refusal(400, str(error))
        except RequestRefused as error:
            return refusal(error.code, error.what, error.headers)
        except Exception:
            log.exception("a look-up failed")
            return refusal(503, "the feature store does not answer", ((b"retry-after", b"1"),))

    async def _transformed(self, model: str, path: str, headers: Headers, body: RequestBody) -> Answer:
        if JSON_LENGTH in headers or headers.get(b"content-encoding", b"identity") != b"identity":
            raise RequestRefused(
                415, "features are looked up for plain JSON alone; send it without binary tensors or gzip"
            )
        limit = self.state.limits.body_bytes
        content = await body.up_to(limit)
        if not body.whole or len(content) > limit:
            raise RequestRefused(413, f"the body is larger than {limit} bytes")
        filled_in = await asyncio.to_thread(self._look_ups.fill_in, model, parse_json(content))
        return await self._predicted(path, headers, orjson.dumps(filled_in))

    async def _predicted(self, path: str, headers: Headers, body: bytes) -> Answer:
        """What the predictor answers; it is asked again only where nothing has reached it."""
        passed_on = {
            name.decode(): value.decode("latin-1") for name, value in headers.items() if name not in NOT_PASSED_ON
        }
        for attempt in range(1, CONNECT_TRIES + 1):
            try:
                async with self._session.post(f"{self._predictor}{path}", data=body, headers=passed_on) as answer:
                    content = await answer.read()
                    given = {name.lower(): value for name, value in answer.headers.items()}
                    named = [
                        (name.encode(), value.encode("latin-1"))
                        for name, value in given.items()
                        if name != "content-type" and (name.startswith("x-") or name in RETURNED)
                    ]
                    kind = given.get("content-type", "application/json").encode()
                    return Answer(answer.status, content, kind, named)
            except aiohttp.ClientConnectorError:
                if attempt == CONNECT_TRIES:
                    raise RequestRefused(503, "the predictor cannot be reached", (b"retry-after", b"1")) from None
                await asyncio.sleep(CONNECT_PAUSE_S * attempt)
            except TimeoutError:
                raise RequestRefused(504, "the predictor did not answer in time") from None
            except aiohttp.ClientError as error:
                raise RequestRefused(502, f"the predictor did not answer ({type(error).__name__})") from None
        raise AssertionError


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
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:

        async def stopped() -> None:
            await session.close()

        predictor = options.predictor if "://" in options.predictor else f"http://{options.predictor}"
        application = Transformer(look_ups, predictor.rstrip("/"), session, limits, options.model)
        await Server(application, options.host, options.port, options.drain, stopped).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
