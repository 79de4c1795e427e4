"""V2 over gRPC: KServe's GRPCInferenceService, with the same checks and limits as over HTTP.

Models are neither loaded nor unloaded by it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode

from mlops_assets.ml.errors import BadRequest, ModelNotServed, ServerBusy
from mlops_assets.ml.inference.artifact import V2_DATATYPES
from mlops_assets.serving.grpc_messages import SERVICE, as_http, as_message, pb, response_of, tensors_of_message
from mlops_assets.serving.http_answers import CALLER_GONE, REQUEST_ID, ROLE, reason_of
from mlops_assets.serving.inference_protocol import Tensor, binary_tensor, new_request_id, request_id_of
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.prediction_route import predict_shared
from mlops_assets.serving.request_metrics import observe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mlops_assets.serving.http_answers import Answer, Headers
    from mlops_assets.serving.predictor import Predictor
    from mlops_assets.serving.server_state import RequestState, ServerState

    Method = Callable[[Any, Any], Awaitable[Any]]

# What HTTP's status is here
CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.RESOURCE_EXHAUSTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
AT_ONCE_S = 0.1  # within which a message comes that is not large, or is on a slow way
LONGEST_REASON = 1_000  # it stands in a header
log = logging.getLogger("mlops_assets.serving")


class Inference:
    """The methods of the service."""

    def __init__(self, state: ServerState) -> None:
        self.state = state

    @property
    def methods(self) -> Mapping[str, Method]:
        """Each by the name that the protocol has for it."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }

    async def server_live(self, _: Any, __: Any) -> Any:
        """The server runs."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: Any, __: Any) -> Any:
        """The server has a model that can be asked."""
        return pb.ServerReadyResponse(ready=self.state.ready)

    async def server_metadata(self, _: Any, __: Any) -> Any:
        """What the server is."""
        return pb.ServerMetadataResponse(**self.state.metadata)

    async def model_ready(self, request: Any, context: Any) -> Any:
        """A model can be asked: it answers its golden rows as in training."""
        model = await self._model(request.name, request.version, context)
        return pb.ModelReadyResponse(ready=self.state.not_ready(model) is None)

    async def model_metadata(self, request: Any, context: Any) -> Any:
        """What a model takes and gives."""
        model = await self._model(request.name, request.version, context)
        return pb.ModelMetadataResponse(**model.metadata)

    async def model_infer(self, request: Any, context: Any) -> Any:
        """Answer a prediction request."""
        model = await self._model(request.model_name, request.model_version, context)
        start, code = time.perf_counter(), 500
        try:
            size = request.ByteSize()
            async with self.state.holding_large() if size > LARGE_BODY else nullcontext():
                response = await self._answered(model, request, headers_of(context), size)
        except BadRequest as error:
            code = 400
            await context.abort(StatusCode.INVALID_ARGUMENT, str(error))
        except ServerBusy as error:
            code = 503
            await context.abort(StatusCode.UNAVAILABLE, error.what)
        except asyncio.CancelledError:
            code = CALLER_GONE
            raise
        except Exception:
            log.exception("%s ModelInfer %s: 500", context.peer(), model.name)
            await context.abort(StatusCode.INTERNAL, "the server failed; its log says why")
        else:
            code = 200
            return response
        finally:
            observe(model.name, code, time.perf_counter() - start)

    async def _answered(self, model: Predictor, request: Any, headers: Headers, size: int) -> Any:
        split = None if request.model_version else self.state.split(model.name)
        if split is not None:
            told = await self.state.worked(size, partial(as_http, request, headers))
            # Numbers take up to eight times as many bytes there; what is too large for it the champion answers alone
            if len(told.body) <= self.state.limits.body_bytes:
                answer = await predict_shared(self.state, split, model, told)
                raw = bool(request.raw_input_contents)
                try:
                    return await self.state.worked(len(answer.body), partial(as_message, answer, raw=raw))
                except ValueError as error:
                    log.warning("what the candidate of %s answers is of no use: %s", model.name, error)
        return await self.state.worked(size, partial(infer, model, request, headers))

    async def _model(self, name: str, version: str, context: Any) -> Predictor:
        try:
            return self.state.model(name, version or None)
        except ModelNotServed as error:
            await context.abort(StatusCode.NOT_FOUND, error.what)
            raise


def _parsed(method: Method, parse: Callable[[bytes], Any], state: RequestState) -> Method:
    """A method that is called when headers have come. Parsed by grpc itself, what is no message would be a fault of the
    server; and a message that does not come as a whole, of which grpc keeps what has, would be waited for for ever.
    """

    async def called(_: Any, context: Any) -> Any:
        try:
            request = parse(await _message(context, state))
        except DecodeError:
            await context.abort(StatusCode.INVALID_ARGUMENT, "this is no message of the Open Inference Protocol")
            raise
        except ServerBusy as error:
            await context.abort(StatusCode.UNAVAILABLE, error.what)
            raise
        except TimeoutError:
            await context.abort(StatusCode.DEADLINE_EXCEEDED, "the request has not come in time")
            raise
        return await method(request, context)

    return called


async def _message(context: Any, state: RequestState) -> bytes:
    """The message of a call; one that does not come at once is held as a large one.

    Raises:
        DecodeError: there is none.
        ServerBusy: there are too many large ones.
        TimeoutError: it takes as long as no body may.
    """
    coming = asyncio.ensure_future(context.read())
    try:
        await asyncio.wait({coming}, timeout=AT_ONCE_S)
        if not coming.done():
            async with state.holding_large(), asyncio.timeout(state.limits.body_s):
                await asyncio.wait({coming})
    finally:
        coming.cancel()
    content = coming.result()
    if not isinstance(content, bytes):  # grpc's sign that none comes
        raise DecodeError
    return content


def infer(model: Predictor, request: Any, headers: Headers) -> Any:
    """Answer a ModelInferRequest; its outputs are raw where its inputs are.

    Raises:
        BadRequest: it does not fit the model.
    """
    start = time.perf_counter()
    given = headers.get(REQUEST_ID, b"").decode("latin-1")
    request_id = request_id_of(request.id) or request_id_of(given) or new_request_id()
    names = [output.name for output in request.outputs] or model.onnx.output_names
    model.check_outputs(dict.fromkeys(names))
    inputs = model.reader.tensors(tensors_of_message(request))
    found = model.answer(request_id, inputs, start, request.ByteSize(), headers.get(ROLE))
    raw = bool(request.raw_input_contents)
    outputs = (
        Tensor(
            name,
            V2_DATATYPES[found[name].dtype.name],
            found[name].shape,
            memoryview(binary_tensor(found[name])) if raw else found[name].ravel().tolist(),
        )
        for name in names
    )
    return response_of(model.name, model.served.version, request_id, outputs, raw=raw)


async def refuse(context: Any, answer: Answer) -> None:
    """End a call as a request over HTTP is that got this answer."""
    await context.abort(CODES.get(answer.code, StatusCode.INTERNAL), reason_of(answer.body)[:LONGEST_REASON])


def headers_of(context: Any) -> Headers:
    """The metadata of a call, which are its headers over HTTP: bytes, which grpc decodes as UTF-8 where it can."""
    pairs = context.invocation_metadata() or ()
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in pairs}


async def start_grpc_server(
    methods: Mapping[str, Method], state: RequestState, host: str, port: int
) -> grpc.aio.Server:
    """Answer on this port within the limits of `state`, until the server that is returned is stopped.

    Raises:
        RuntimeError: the port is taken.
    """
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", state.limits.body_bytes), ("grpc.so_reuseport", 0)]
    )
    types = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    handlers = {
        name: grpc.stream_unary_rpc_method_handler(
            _parsed(method, getattr(pb, types[name].input_type.name).FromString, state),
            response_serializer=getattr(pb, types[name].output_type.name).SerializeToString,
        )
        for name, method in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    await server.start()
    return server
