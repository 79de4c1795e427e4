"""Reads the body of a request as it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def body_up_to(limit: int, receive: Receive) -> tuple[bytes, bool]:
    """The next bytes of a body, a message more than `limit` at most, and whether they are the last ones."""
    parts, size, whole = list[bytes](), 0, False
    while not whole and size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        whole = not message.get("more_body")
    return parts[0] if len(parts) == 1 else b"".join(parts), whole
