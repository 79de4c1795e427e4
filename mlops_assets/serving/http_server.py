"""uvicorn, which speaks HTTP: its options, and how it begins and stops."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import uvicorn

from mlops_assets.serving.http_connection import Connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from mlops_assets.serving.application import Application

STOP_S = 20


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
            http=Connection,
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        gc.freeze()  # what libraries have loaded is no garbage, and to look for some there took a seventh of all time

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections; after this uvicorn raises the signal again, which ends the process."""
        await super().shutdown(sockets)
        await self.stopped()
