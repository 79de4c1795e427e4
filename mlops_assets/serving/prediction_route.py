"""The hot route: a prediction request of V1 or V2 over HTTP."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING

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
from mlops_assets.serving.request_metrics import Counting
from mlops_assets.serving.traffic_split import Timed, with_id

if TYPE_CHECKING:
    from mlops_assets.serving.http_answers import Begun, Headers
    from mlops_assets.serving.predictor import Predictor
    from mlops_assets.serving.request_body import RequestBody
    from mlops_assets.serving.server_state import ServerState
    from mlops_assets.serving.traffic_split import TrafficSplit

PREDICT = re.compile(r"/v1/models/([^/:]+):predict|/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


class PredictionRoute:
    """Answers predictions, each counted by model and status."""

    def __init__(self, state: ServerState) -> None:
        self.state, self.limits = state, state.limits

    def begun(self, match: re.Match[str], headers: Headers, body: bytes) -> Begun | None:
        """The answer to a request of a path that PREDICT matches, whose whole body has come; None for a large one.

        Raises:
            BadRequest: it does not fit the model.
            ModelNotServed: there is no such model.
        """
        if CONTENT_ENCODING in headers or len(body) > min(LARGE_BODY, self.limits.body_bytes):
            return None
        model, split = self._asked(match)
        with Counting(model.name) as counting:
            request = HttpRequest(match.string, body, headers)
            if split is None:
                return predict(model, request)
            if split.candidate.handed:
                request = with_id(request)
                if split.hands_over(request):
                    return counting.to_its_end(predict_shared(self.state, split, model, request))
            return split.answered_here(request, partial(_timed, model, request))

    async def __call__(self, match: re.Match[str], headers: Headers, body: RequestBody) -> Answer:
        """Answer a request of a path that PREDICT matches.

        Raises:
            BadRequest: it does not fit the model.
            RequestRefused: it is too large, or cannot be unpacked.
            ServerBusy: there are too many large ones.
            ModelNotServed: there is no such model.
            ConnectionError: the caller has gone.
        """
        model, split = self._asked(match)
        with Counting(model.name) as counting:
            check_length(headers, self.limits.body_bytes)
            content = await body.up_to(LARGE_BODY)
            request = HttpRequest(match.string, content, headers)
            if body.whole and len(content) <= LARGE_BODY and CONTENT_ENCODING not in headers:
                counting.begin()
                return await predict_shared(self.state, split, model, request) if split else predict(model, request)
            return await self._predict_large(model, request, body, split)

    def _asked(self, match: re.Match[str]) -> tuple[Predictor, TrafficSplit | None]:
        """The model that is asked, and how its requests are shared; of a version that is named no other one answers."""
        v1, v2, version = match.groups()
        model = self.state.model(v1 or v2, version)
        return model, None if version else self.state.split(model.name)

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
    return await split.answered(request, lambda: state.worked(size, partial(_timed, model, request)))


def _timed(model: Predictor, request: HttpRequest) -> Timed:
    start = time.perf_counter()
    answer = predict(model, request)
    return Timed(answer, time.perf_counter() - start)


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
