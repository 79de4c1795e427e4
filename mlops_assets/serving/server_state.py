"""What HTTP and gRPC share: how many large requests are answered, the models, and whether the server is ready."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_assets.ml.errors import ModelNotServed, ServerBusy
from mlops_assets.serving.limits import LARGE_BODY, Limits
from mlops_assets.serving.standing_proof import StandingProofs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from mlops_assets.serving.model_repository import Repository
    from mlops_assets.serving.predictor import Predictor
    from mlops_assets.serving.traffic_follower import TrafficFollower
    from mlops_assets.serving.traffic_split import TrafficSplit

Found = TypeVar("Found")
SERVER_VERSION = "0.1.0"  # that of pyproject.toml, which no image has
BUSY = "too many large requests are being answered"


class RequestState:
    """What a server may be asked at a time, and whether it is about to stop, though it still answers."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.draining = limits, False
        self._held, self._unread = asyncio.Semaphore(limits.held_bodies), 0
        self._answered = asyncio.Semaphore(limits.large_bodies)

    @asynccontextmanager
    async def holding_large(self) -> AsyncGenerator[None]:
        """Hold a large request; of these, and of large answers that are still to be read, there are only so many.

        Raises:
            ServerBusy: there are.
        """
        if self._held.locked() or self._unread >= self.limits.held_bodies:
            raise ServerBusy(BUSY)
        async with self._held:
            yield

    @contextmanager
    def answer_unread(self) -> Generator[None]:
        """Hold a large answer until its caller has read it."""
        self._unread += 1
        try:
            yield
        finally:
            self._unread -= 1

    async def in_turn(self, work: Callable[[], Found]) -> Found:
        """What `work`, which is done in a thread, finds in a large request; only so many are worked on at a time. A
        thread cannot be cancelled: where the caller goes, the next one's turn comes when its work has ended.

        Raises:
            ServerBusy: the turn did not come in time.
        """
        try:
            async with asyncio.timeout(self.limits.large_body_wait_s):
                await self._answered.acquire()
        except TimeoutError:
            raise ServerBusy(BUSY) from None
        working = asyncio.ensure_future(asyncio.to_thread(work))
        working.add_done_callback(self._ended)
        return await asyncio.shield(working)

    def _ended(self, working: asyncio.Future[Any]) -> None:
        self._answered.release()
        if not working.cancelled():
            working.exception()  # nobody else may ask for it

    async def worked(self, size: int, work: Callable[[], Found]) -> Found:
        """What `work` finds in a request of `size` bytes: of a large one `in_turn`.

        Raises:
            ServerBusy: its turn did not come in time.
        """
        return work() if size <= LARGE_BODY else await self.in_turn(work)


class ServerState(RequestState):
    """The models of a server, and its limits."""

    def __init__(self, repository: Repository, limits: Limits | None = None) -> None:
        super().__init__(limits or Limits())
        self.repository, self.inference_log = repository, repository.inference_log
        self.traffic: TrafficFollower | None = None
        self.proofs = StandingProofs()

    @property
    def ready(self) -> bool:
        """The server has a model that can be asked."""
        return any(self.not_ready(model) is None for model in [*self.repository.models.values()])

    def not_ready(self, model: Predictor) -> str | None:
        """Why a model is not to be asked here; None where it is, for it answers its golden rows as in training."""
        return "this server is about to stop" if self.draining else self.proofs.fault(model)

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
