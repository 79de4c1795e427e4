"""Load over HTTP or gRPC: `python -m bench.load URL SECONDS CONNECTIONS`, a request's body on the standard input.

Of gRPC the URL is grpc://HOST:PORT/SERVICE/METHOD.

A process of its own, so that it takes no time of those it measures. Each connection sends a request when it has the
answer to the one before. Requests are bytes that are made once and answers are parsed by httptools, so that it is no
slower than the servers (about 25,000 requests a second on one core).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httptools
import uvloop
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PATIENCE_S = 30  # after the end, for answers that are still to come


class Load(BaseModel):
    """What a server did under load: requests a second, milliseconds of the median and of the slowest hundredth."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    example: str


class Connection(asyncio.Protocol):
    """A connection that asks again as soon as it is answered, until `deadline`; an error ends it."""

    def __init__(self, request: bytes, deadline: float) -> None:
        self.request, self.deadline = request, deadline
        self.latencies, self.refused = list[float](), list[str]()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.parser, self.body = httptools.HttpResponseParser(self), b""
        self.asked = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """httptools has a part of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """httptools has the whole answer."""
        now = time.perf_counter()
        if self.parser.get_status_code() == 200:
            self.latencies.append(now - self.asked)
        else:
            self.refused.append(f"{self.parser.get_status_code()} {self.body[:300].decode(errors='replace')}")
        if now < self.deadline and self.parser.should_keep_alive():
            asyncio.get_running_loop().call_soon(self._ask)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self.deadline:
            self.refused.append(f"the connection was closed: {exc}")
        self.done.set_result(None)

    def give_up(self) -> None:
        """End a connection whose answer does not come."""
        self.refused.append("no answer came")
        self.transport.abort()


async def load(url: str, body: bytes, seconds: float, connections: int) -> Load:
    """Post a body over so many connections for so long."""
    address = urlsplit(url)
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    start = time.perf_counter()
    made = [Connection(request, start + seconds) for _ in range(connections)]
    loop = asyncio.get_running_loop()
    host, port = str(address.hostname), address.port or 80
    for connection in made:
        await loop.create_connection(lambda connection=connection: connection, host, port)
    ends = [connection.done for connection in made]
    await asyncio.wait(ends, timeout=seconds + PATIENCE_S)
    for connection in made:
        if not connection.done.done():
            connection.give_up()
    await asyncio.gather(*ends)
    took = time.perf_counter() - start
    latencies = [second for connection in made for second in connection.latencies]
    return summary(latencies, [text for connection in made for text in connection.refused], took)


async def load_grpc(url: str, message: bytes, seconds: float, connections: int) -> Load:
    """Call a method with a message over so many channels for so long."""
    import grpc

    address = urlsplit(url)
    latencies, refused, start = list[float](), list[str](), time.perf_counter()

    async def ask() -> None:
        # Channels to one address share a connection where nothing tells them apart
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address.netloc, options) as channel:
            method = channel.unary_unary(address.path)
            asked = start
            while asked < start + seconds:
                try:
                    await method(message, timeout=PATIENCE_S)
                except grpc.RpcError as error:
                    refused.append(str(error.details())[:300])
                    return
                now = time.perf_counter()
                latencies.append(now - asked)
                asked = now

    await asyncio.gather(*(ask() for _ in range(connections)))
    return summary(latencies, refused, time.perf_counter() - start)


def summary(latencies: Sequence[float], refused: Sequence[str], took: float) -> Load:
    """The figures of a load: the seconds of each answer, what each error was, and the seconds of all."""
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    return Load(
        requests_per_s=len(latencies) / took,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        errors=len(refused),
        example=refused[0] if refused else "",
    )


def main() -> None:
    """Print what was found as JSON."""
    url, seconds, connections = sys.argv[1:]
    body = sys.stdin.buffer.read()
    if url.startswith("grpc:"):
        found = asyncio.run(load_grpc(url, body, float(seconds), int(connections)))
    else:
        found = uvloop.run(load(url, body, float(seconds), int(connections)))
    sys.stdout.write(json.dumps(found.model_dump()) + "\n")


if __name__ == "__main__":
    main()
