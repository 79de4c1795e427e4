"""uvicorn, which speaks HTTP: its options, and the two places where it is extended, which a contract test holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from mlops_assets.serving.limits import Limits

STOP_S = 20


class State(Protocol):
    """What the server reads and sets of its application: what a caller may cost, and whether it is about to stop."""

    limits: Limits
    draining: bool


class Application(Protocol):
    """An application of ASGI with such a state."""

    @property
    def state(self) -> State: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Server(uvicorn.Server):
    """Stops as a server behind a load balancer must: from SIGTERM on it is not ready and closes each connection with
    its answer, and after `drain_s` it takes no new ones. When the last is closed, `stopped` is awaited.
    """

    def __init__(
        self, application: Application, host: str, port: int, drain_s: float, stopped: Callable[[], Awaitable[None]]
    ) -> None:
        self.state, self.drain_s, self.stopped = application.state, drain_s, stopped
        config = uvicorn.Config(
            application,
            host=host,
            port=port,
            http=_protocol(application.state.limits),
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=STOP_S,
            timeout_keep_alive=65,  # longer than load balancers keep a connection they do not use
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after `drain_s`, at once on a second signal."""
        if self.state.draining or not self.drain_s:
            self.state.draining = True
            super().handle_exit(sig, frame)
            return
        self.state.draining = True
        asyncio.get_running_loop().call_later(self.drain_s, super().handle_exit, sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections; after this uvicorn raises the signal again, which ends the process."""
        await super().shutdown(sockets)
        await self.stopped()


def _protocol(limits: Limits) -> type[asyncio.Protocol]:
    class Connection(HttpToolsProtocol):
        """Closes a connection whose request takes too long to come; uvicorn waits for ever.

        A request that comes as a whole, as nearly all do, needs no timer.
        """

        _awaited_s: float | None = limits.header_s
        _timer: asyncio.TimerHandle | None = None
        _timed: float | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._set_timer()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._awaited_s != self._timed:
                self._set_timer()

        def on_message_begin(self) -> None:
            self._awaited_s = limits.header_s
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._awaited_s = limits.body_s
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._awaited_s = None
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._awaited_s = None
            self._set_timer()
            super().connection_lost(exc)

        def _set_timer(self) -> None:
            if self._timer:
                self._timer.cancel()
            self._timed = self._awaited_s
            self._timer = self.loop.call_later(self._timed, self.transport.close) if self._timed else None

    return Connection
