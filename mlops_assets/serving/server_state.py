"""What HTTP and gRPC share: the models, whether the server is ready, and how many large requests it answers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_assets.ml.errors import ModelNotServed, ServerBusy
from mlops_assets.serving.limits import LARGE_BODY, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mlops_assets.serving.model_repository import Repository
    from mlops_assets.serving.predictor import Predictor
    from mlops_assets.serving.traffic_follower import TrafficFollower
    from mlops_assets.serving.traffic_split import TrafficSplit

Found = TypeVar("Found")
SERVER_VERSION = "0.1.0"  # that of pyproject.toml, which no image has
BUSY = "too many large requests are being answered"


class ServerState:
    """The models of a server, and its limits."""

    def __init__(self, repository: Repository, limits: Limits | None = None) -> None:
        self.repository, self.limits = repository, limits or Limits()
        self.inference_log = repository.inference_log
        self.traffic: TrafficFollower | None = None
        self.draining = False
        """The server is about to stop; it still answers."""
        self._held = asyncio.Semaphore(self.limits.held_bodies)
        self._answered = asyncio.Semaphore(self.limits.large_bodies)

    @property
    def ready(self) -> bool:
        """The server has models and is not about to stop."""
        return bool(self.repository.models) and not self.draining

    @property
    def metadata(self) -> dict[str, Any]:
        """What the server is, in V2's words."""
        extensions = ["model_repository", "binary_tensor_data"]
        return {"name": "mlops-assets", "version": SERVER_VERSION, "extensions": extensions}

    def split(self, model: str) -> TrafficSplit | None:
        """How a model's requests are shared with its candidate; None where they are not."""
        return self.traffic.split(model) if self.traffic else None

    def model(self, name: str, version: str | None = None) -> Predictor:
        """The model that answers under a name, which has the version if one is given.

        Raises:
            ModelNotServed: there is none.
        """
        model = self.repository.models.get(name)
        if model is None:
            raise ModelNotServed(f"there is no model {name[:63]!r} here")
        if version not in (None, model.served.version):
            raise ModelNotServed(f"version {model.served.version} of {name} is served, and not {version[:63]!r}")
        return model

    @asynccontextmanager
    async def holding_large(self) -> AsyncGenerator[None]:
        """Hold a large request; of these there are only so many at a time.

        Raises:
            ServerBusy: there are.
        """
        if self._held.locked():
            raise ServerBusy(BUSY)
        async with self._held:
            yield

    @asynccontextmanager
    async def answering_large(self) -> AsyncGenerator[None]:
        """Wait until a large request may be answered.

        Raises:
            ServerBusy: that took too long.
        """
        try:
            async with asyncio.timeout(self.limits.large_body_wait_s):
                await self._answered.acquire()
        except TimeoutError:
            raise ServerBusy(BUSY) from None
        try:
            yield
        finally:
            self._answered.release()

    async def worked(self, size: int, work: Callable[[], Found]) -> Found:
        """What `work` finds in a request of `size` bytes; a large one waits its turn, and is worked on in a thread.

        Raises:
            ServerBusy: that took too long.
        """
        if size <= LARGE_BODY:
            return work()
        async with self.answering_large():
            return await asyncio.to_thread(work)
