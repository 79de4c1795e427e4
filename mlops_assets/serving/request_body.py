"""Reads the body of a request as it comes, and unpacks it."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import RequestRefused
from mlops_assets.serving.http_answers import CONTENT_ENCODING

if TYPE_CHECKING:
    from mlops_assets.serving.http_answers import Headers, HttpRequest

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
DISCARDED = 256 << 20


class RequestBody:
    """The body of a request; `whole` when all of it has come. A caller that `waits` sends it when it is asked for."""

    def __init__(self, receive: Receive, *, waits: bool = False) -> None:
        self._receive, self.waits, self.whole = receive, waits, False

    async def up_to(self, limit: int) -> bytes:
        """The next bytes, a message more than `limit` at most.

        Raises:
            ConnectionError: the caller has gone.
        """
        parts, size = list[bytes](), 0
        while not self.whole and size <= limit:
            parts.append(await self._next())
            size += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def rest_of(self, begun: bytes, limit: int) -> bytes:
        """The whole body, of which `begun` has come.

        Raises:
            RequestRefused: it is larger than `limit` bytes.
            ConnectionError: the caller has gone.
        """
        content = begun + await self.up_to(limit - len(begun))
        if not self.whole or len(content) > limit:
            raise too_large(limit)
        return content

    async def discard(self) -> None:
        """Let the rest come: a caller that is still sending it would not read the answer."""
        size = 0
        while not self.waits and not self.whole and size <= DISCARDED:
            size += len(await self._next())

    async def _next(self) -> bytes:
        self.waits, message = False, await self._receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        self.whole = not message.get("more_body")
        return message.get("body", b"")


def check_length(headers: Headers, limit: int) -> None:
    """Refuse a body that is announced to be larger than `limit` bytes, before it comes.

    Raises:
        RequestRefused: it is.
    """
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > limit:
        raise too_large(limit)


def unpacked(request: HttpRequest, limit: int) -> HttpRequest:
    """A request whose whole body has come, not packed any more.

    Raises:
        RequestRefused: it cannot be unpacked, or to more than `limit` bytes.
    """
    encoding = request.headers.get(CONTENT_ENCODING, b"identity").lower()
    if encoding == b"identity":
        return request
    if encoding != b"gzip":
        raise RequestRefused(415, "Content-Encoding must be gzip or identity", (b"accept-encoding", b"gzip, identity"))
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(request.body, limit + 1)
    except zlib.error as error:
        raise RequestRefused(400, f"the body is not gzip: {error}") from error
    if len(body) > limit:
        raise too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise RequestRefused(400, "the body is not one whole gzip stream")
    return request._replace(body=body)


def too_large(limit: int) -> RequestRefused:
    """The refusal of a body above `limit` bytes."""
    size = f"{limit >> 20} MiB" if limit % (1 << 20) == 0 else f"{limit} bytes"
    return RequestRefused(413, f"the body is larger than {size}")
