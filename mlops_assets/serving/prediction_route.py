"""The hot route: a prediction request of V1 or V2 over HTTP."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import BadRequest, RequestRefused, ServerBusy
from mlops_assets.serving.http_answers import (
    BINARY,
    CONTENT_ENCODING,
    JSON,
    JSON_LENGTH,
    REQUEST_ID,
    ROLE,
    TIMING,
    VERSION,
    Answer,
    HttpRequest,
)
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.request_body import check_length, unpacked
from mlops_assets.serving.request_metrics import CALLER_GONE, observe
from mlops_assets.serving.traffic_split import Timed, with_id

if TYPE_CHECKING:
    from mlops_assets.serving.http_answers import Headers
    from mlops_assets.serving.predictor import Predictor
    from mlops_assets.serving.request_body import RequestBody
    from mlops_assets.serving.server_state import ServerState
    from mlops_assets.serving.traffic_split import TrafficSplit

PREDICT = re.compile(r"/v1/models/([^/:]+):predict|/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


class PredictionRoute:
    """Answers predictions, each counted by model and status."""

    def __init__(self, state: ServerState) -> None:
        self.state, self.limits = state, state.limits

    async def __call__(self, match: re.Match[str], headers: Headers, body: RequestBody) -> Answer:
        """Answer the request of a path that PREDICT matches.

        Raises:
            BadRequest: it does not fit the model.
            RequestRefused: it is too large, or cannot be unpacked.
            ServerBusy: there are too many large ones.
            ModelNotServed: there is no such model.
            ConnectionError: the caller has gone.
        """
        v1, v2, version = match.groups()
        model = self.state.model(v1 or v2, version)
        start, code = time.perf_counter(), 500
        try:
            check_length(headers, self.limits.body_bytes)
            content = await body.up_to(LARGE_BODY)
            request = HttpRequest(match.string, content, headers)
            # Of a version that is named no other one answers
            split = None if version else self.state.split(model.name)
            if body.whole and len(content) <= LARGE_BODY and CONTENT_ENCODING not in headers:
                start = time.perf_counter()
                answer = await predict_shared(self.state, split, model, request) if split else predict(model, request)
            else:
                answer = await self._predict_large(model, request, body, split)
            code = answer.code
        except BadRequest:
            code = 400
            raise
        except ServerBusy:
            code = 503
            raise
        except RequestRefused as refused:
            code = refused.code
            raise
        except (ConnectionError, asyncio.CancelledError):
            code = CALLER_GONE
            raise
        finally:
            observe(model.name, code, time.perf_counter() - start)
        return answer

    async def _predict_large(
        self, model: Predictor, request: HttpRequest, body: RequestBody, split: TrafficSplit | None
    ) -> Answer:
        """Answer a large body, or one that is packed and may be one, of which `request` has the beginning."""
        limit = self.limits.body_bytes
        async with self.state.holding_large():
            whole = request._replace(body=await body.rest_of(request.body, limit))
            if split is None:
                return await self.state.worked(limit, lambda: predict(model, unpacked(whole, limit)))
            request = await self.state.worked(limit, partial(unpacked, whole, limit))
            return await predict_shared(self.state, split, model, request)


async def predict_shared(state: ServerState, split: TrafficSplit, model: Predictor, request: HttpRequest) -> Answer:
    """The answer to a request of a model that shares its requests with a candidate.

    Raises:
        BadRequest: it does not fit the model.
        ServerBusy: there are too many large ones.
    """
    size = len(request.body)
    request = await state.worked(size, partial(with_id, request))

    def timed() -> Timed:
        start = time.perf_counter()
        answer = predict(model, request)
        return Timed(answer, time.perf_counter() - start)

    return await split.answered(request, lambda: state.worked(size, timed))


def predict(model: Predictor, request: HttpRequest) -> Answer:
    """The answer of a model that this server has.

    Raises:
        BadRequest: the request does not fit it.
    """
    start, (_, body, headers) = time.perf_counter(), request
    given, role = headers.get(REQUEST_ID), headers.get(ROLE)
    request_id = given.decode("latin-1") if given else None
    if request.is_v1:
        prediction = model.predict_v1(body, request_id, role)
    else:
        prediction = model.predict_v2(body, request_id, request.json_bytes, role)
    named = [(VERSION, model.served.version.encode()), (REQUEST_ID, prediction.request_id.encode())]
    if role is not None:
        named.append((TIMING, f"graph;dur={1e3 * (time.perf_counter() - start):.3f}".encode()))
    if prediction.json_bytes is None:
        return Answer(200, prediction.body, JSON, named)
    return Answer(200, prediction.body, BINARY, [*named, (JSON_LENGTH, str(prediction.json_bytes).encode())])
