"""The anchor of what uvicorn itself costs: an application that reads nothing and says nothing."""

from __future__ import annotations

from typing import Any


async def answer(_: Any, __: Any, send: Any) -> None:
    """Answer any request with an empty body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
