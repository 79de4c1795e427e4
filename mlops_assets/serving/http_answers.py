"""Requests and responses of the model server, and the headers that it reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import orjson

from mlops_assets.ml.errors import BadRequest, ModelNotServed, RequestRefused, ServerBusy

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    Headers = Mapping[bytes, bytes]

VERSION, REQUEST_ID, JSON_LENGTH = b"x-model-version", b"x-request-id", b"inference-header-content-length"
CONTENT_TYPE, CONTENT_ENCODING = b"content-type", b"content-encoding"
# Of a request that another server sends on: why; and of its response: how long the graph's server took for it
ROLE, TIMING = b"x-mlops-role", b"server-timing"
MIRROR, CANARY, REPLAY = b"mirror", b"canary", b"replay"
BEGUN = "mlops.begun"  # where the scope of a request has the answer that is on its way
CALLER_GONE = 499  # nginx's: who asked did not wait for the answer, which is no fault of the server
RETRY_SOON = ((b"retry-after", b"1"),)
JSON, BINARY, HTML = b"application/json", b"application/octet-stream", b"text/html; charset=utf-8"


class HttpRequest(NamedTuple):
    """A prediction request of V1 or V2 that has come as a whole, not packed any more."""

    path: str
    body: bytes
    headers: Headers

    @property
    def is_v1(self) -> bool:
        """Whether it is one of V1, which has no binary tensors."""
        return self.path.startswith("/v1/")

    @property
    def json_bytes(self) -> int | None:
        """How many bytes of the body are JSON, where binary tensors follow it.

        Raises:
            BadRequest: its header says something else.
        """
        return None if self.is_v1 else json_bytes_of(self.headers, len(self.body))


class Answer(NamedTuple):
    """A response."""

    code: int
    body: bytes
    content_type: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()

    @property
    def json_bytes(self) -> int | None:
        """How many bytes of the body are JSON, where binary tensors follow it."""
        return json_bytes_of(dict(self.headers), len(self.body))

    @property
    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Those of its body too."""
        length = b"%d" % len(self.body)
        return [(CONTENT_TYPE, self.content_type), (b"content-length", length), *self.headers]


Begun: TypeAlias = "Answer | Coroutine[Any, Any, Answer]"  # one that there is, or one that is on its way


def json_bytes_of(headers: Headers, body: int) -> int | None:
    """How many of the bytes of a body are JSON, where a header says that binary tensors follow it.

    Raises:
        BadRequest: it says something else.
    """
    given = headers.get(JSON_LENGTH)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 20 or int(given) > body:
        raise BadRequest("Inference-Header-Content-Length must be the number of the body's first bytes that are JSON")
    return int(given)


def answer_json(content: object, code: int = 200) -> Answer:
    """A response of plain values."""
    return Answer(code, orjson.dumps(content))


def refusal(code: int, reason: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error, with its reason."""
    return Answer(code, orjson.dumps({"error": reason}), headers=headers)


def refusal_of(error: Exception) -> Answer:
    """What is answered where this is raised; what has no answer of its own is a fault of the server."""
    match error:
        case BadRequest():
            return refusal(400, str(error))
        case RequestRefused():
            return refusal(error.code, error.what, error.headers)
        case ModelNotServed():
            return refusal(404, error.what)
        case ServerBusy():
            return refusal(503, error.what, RETRY_SOON)
        case ConnectionError():
            return refusal(CALLER_GONE, "the caller has gone")
        case _:
            return refusal(500, "the server failed; its log says why")


def reason_of(content: bytes) -> str:
    """The reason in the body of an error.

    >>> reason_of(refusal(400, "column x is missing").body), reason_of(b"oops")
    ('column x is missing', 'no reason')
    """
    try:
        return str(orjson.loads(content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "no reason"
