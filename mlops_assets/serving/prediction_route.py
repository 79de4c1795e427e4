"""The hot route: a prediction request of V1 or V2 over HTTP."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import BadRequest, RequestRefused, ServerBusy
from mlops_assets.serving.http_answers import BINARY, JSON, JSON_LENGTH, REQUEST_ID, ROLE, TIMING, VERSION, Answer
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.request_metrics import observe

if TYPE_CHECKING:
    from mlops_assets.serving.http_answers import Headers
    from mlops_assets.serving.predictor import Predictor
    from mlops_assets.serving.request_body import RequestBody
    from mlops_assets.serving.server_state import ServerState

PREDICT = re.compile(r"/v1/models/([^/:]+):predict|/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


class PredictionRoute:
    """Answers predictions, each counted by model and status."""

    def __init__(self, state: ServerState) -> None:
        self.state, self.limits = state, state.limits

    async def __call__(self, match: re.Match[str], headers: Headers, body: RequestBody) -> Answer:
        """Answer the request of a path that PREDICT matches.

        Raises:
            RequestRefused: it does not fit the model, or is too large.
            ModelNotServed: there is no such model.
            ConnectionError: the caller has gone.
        """
        v1, v2, version = match.groups()
        model = self.state.model(v1 or v2, version)
        start, code = time.perf_counter(), 500
        try:
            self._check_length(headers.get(b"content-length", b""))
            content = await body.up_to(LARGE_BODY)
            if body.whole and len(content) <= LARGE_BODY and b"content-encoding" not in headers:
                start = time.perf_counter()
                split = None if version else self.state.split(model.name)
                if split is None:
                    answer = _predict(model, content, headers, v1=bool(v1))
                else:
                    own = partial(_predict, model, content, v1=bool(v1))
                    answer = await split.answered(match.string, content, headers, own)
            else:
                answer = await self._predict_large(model, content, headers, body, v1=bool(v1))
            code = answer.code
        except BadRequest as error:
            code = 400
            raise RequestRefused(code, str(error)) from error
        except ServerBusy as error:
            code = 503
            raise RequestRefused(code, error.what, (b"retry-after", b"1")) from error
        except RequestRefused as refused:
            code = refused.code
            raise
        finally:
            observe(model.name, code, time.perf_counter() - start)
        return answer

    async def _predict_large(
        self, model: Predictor, content: bytes, headers: Headers, body: RequestBody, *, v1: bool
    ) -> Answer:
        """Answer a large body in a thread."""
        async with self.state.holding_large():
            content += await body.up_to(self.limits.body_bytes - len(content))
            if not body.whole or len(content) > self.limits.body_bytes:
                raise self._too_large()
            async with self.state.answering_large():
                return await asyncio.to_thread(self._predict_encoded, model, content, headers, v1=v1)

    def _predict_encoded(self, model: Predictor, body: bytes, headers: Headers, *, v1: bool) -> Answer:
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if encoding == b"gzip":
            body = self._decompressed(body)
        elif encoding != b"identity":
            raise RequestRefused(
                415, "Content-Encoding must be gzip or identity", (b"accept-encoding", b"gzip, identity")
            )
        return _predict(model, body, headers, v1=v1)

    def _decompressed(self, body: bytes) -> bytes:
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            unpacked = unpacker.decompress(body, self.limits.body_bytes + 1)
        except zlib.error as error:
            raise RequestRefused(400, f"the body is not gzip: {error}") from error
        if len(unpacked) > self.limits.body_bytes:
            raise self._too_large()
        if not unpacker.eof or unpacker.unused_data:
            raise RequestRefused(400, "the body is not one whole gzip stream")
        return unpacked

    def _check_length(self, announced: bytes) -> None:
        if announced.isdigit() and int(announced[:20]) > self.limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> RequestRefused:
        limit = self.limits.body_bytes
        size = f"{limit >> 20} MiB" if limit % (1 << 20) == 0 else f"{limit} bytes"
        return RequestRefused(413, f"the body is larger than {size}")


def _predict(model: Predictor, body: bytes, headers: Headers, *, v1: bool) -> Answer:
    start, given, role = time.perf_counter(), headers.get(REQUEST_ID), headers.get(ROLE)
    request_id = given.decode("latin-1") if given else None
    if v1:
        prediction = model.predict_v1(body, request_id, role)
    else:
        prediction = model.predict_v2(body, request_id, _json_length(headers.get(JSON_LENGTH), len(body)), role)
    named = [(VERSION, model.served.version.encode()), (REQUEST_ID, prediction.request_id.encode())]
    if role is not None:
        named.append((TIMING, f"graph;dur={1e3 * (time.perf_counter() - start):.3f}".encode()))
    if prediction.json_bytes is None:
        return Answer(200, prediction.body, JSON, named)
    return Answer(200, prediction.body, BINARY, [*named, (JSON_LENGTH, str(prediction.json_bytes).encode())])


def _json_length(given: bytes | None, body: int) -> int | None:
    if given is None:
        return None
    if not given.isdigit() or int(given[:20]) > body:
        raise BadRequest("Inference-Header-Content-Length must be the number of the body's first bytes that are JSON")
    return int(given)
