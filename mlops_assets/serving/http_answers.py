"""Responses of the model server, and the headers that it reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Headers = Mapping[bytes, bytes]

VERSION, REQUEST_ID, JSON_LENGTH = b"x-model-version", b"x-request-id", b"inference-header-content-length"
# Of a request that another server sends on: why; and of its response: how long the graph's server took for it
ROLE, TIMING = b"x-mlops-role", b"server-timing"
MIRROR, CANARY, REPLAY = b"mirror", b"canary", b"replay"
JSON, BINARY, HTML = b"application/json", b"application/octet-stream", b"text/html; charset=utf-8"


class Answer(NamedTuple):
    """A response."""

    code: int
    body: bytes
    content_type: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()


def answer_json(content: object, code: int = 200) -> Answer:
    """A response of plain values."""
    return Answer(code, orjson.dumps(content))


def refusal(code: int, reason: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error, with its reason."""
    return Answer(code, orjson.dumps({"error": reason}), headers=headers)
