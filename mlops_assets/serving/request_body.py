"""Reads the body of a request as it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
DISCARDED = 256 << 20


class RequestBody:
    """The body of a request; `whole` when all of it has come."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self.whole = receive, False

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

    async def discard(self) -> None:
        """Let the rest come: a caller that is still sending it would not read the answer."""
        size = 0
        while not self.whole and size <= DISCARDED:
            size += len(await self._next())

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        self.whole = not message.get("more_body")
        return message.get("body", b"")
