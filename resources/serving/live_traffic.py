"""Steers how the champion's servers share a model's requests, through the lake, and reads there what they saw."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from mlops_assets.ml.errors import LakeError, LockLost
from mlops_assets.serving.traffic import BEAT_S, Observed, Traffic, observed_folder, traffic_key

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mlops_assets.serving.rollout_policy import RolloutPolicy
    from mlops_assets.serving.traffic import Candidate
    from resources.lake.object_store import ObjectStore


Result = TypeVar("Result")
LAKE_AWAY_S, PAUSE_S = 20.0, 1.0  # for which the lake may be away, less than a split goes on unheard


class LiveTraffic:
    """The live requests of one model. `check` raises LockLost when another process may steer them by now.

    A lake that is away for a moment ends no roll-out: what is asked of it is asked again, for LAKE_AWAY_S.
    """

    def __init__(self, store: ObjectStore, model: str, policy: RolloutPolicy, check: Callable[[], None]) -> None:
        self.store, self.model, self.policy, self.check = store, model, policy, check

    @contextmanager
    def shared(self, champion: str, candidate: Candidate) -> Generator[Traffic]:
        """Have the servers of a version share its requests with a candidate while the block runs.

        They are told every few seconds that somebody watches, so that a split ends with whoever began it; also where
        the lake is away when the block has ended.
        """
        traffic = Traffic(
            id=uuid.uuid4().hex,
            champion=champion,
            candidate=candidate,
            header=self.policy.canary_header,
            deadline_s=self.policy.deadline.total_seconds(),
        )
        ended = threading.Event()

        def write(beat: int) -> None:
            self.check()
            content = traffic.model_copy(update={"beat": beat}).model_dump_json().encode()
            self.store.replace(traffic_key(self.model), content)

        def go_on() -> None:
            beat = 0
            while not ended.wait(BEAT_S):
                beat += 1
                with suppress(LakeError, OSError):  # the next one may get through
                    write(beat)

        patiently(lambda: write(0))
        beats = threading.Thread(target=go_on, daemon=True)
        beats.start()
        try:
            yield traffic
        finally:
            ended.set()
            beats.join()
            self._end_if_possible()

    def _end_if_possible(self) -> None:
        try:
            self.end()
        except LockLost:
            raise
        except (LakeError, OSError):
            pass  # servers that hear nothing end the split, and what they have written the next roll-out deletes

    def end(self) -> None:
        """Have the champion answer all requests, and forget what was seen.

        Raises:
            LakeError: another process steers them by now, or the lake is away; then a split ends by itself.
        """

        def delete() -> None:
            self.check()
            self.store.delete(traffic_key(self.model))
            self.store.delete_many([item.key for item in self.store.stored(f"observed/{self.model}")])

        patiently(delete)

    def observed(self, traffic: Traffic) -> tuple[Observed, int]:
        """What all servers have seen under a split, and how many they are."""
        return patiently(lambda: self._observed(traffic))

    def _observed(self, traffic: Traffic) -> tuple[Observed, int]:
        items = self.store.list(f"{observed_folder(self.model, traffic.id)}/*.json")
        seen, servers = Observed(), 0
        for item in items:
            content = self.store.read(item.key)
            with suppress(ValidationError):  # of a server of another release
                seen, servers = seen + Observed.model_validate_json(content or b""), servers + 1
        return seen, servers


def patiently(ask: Callable[[], Result]) -> Result:
    """What the lake answers, which may be away for LAKE_AWAY_S.

    Raises:
        LockLost: another process has taken over; that is told at once.
        LakeError: the lake is away for longer.
    """
    deadline = time.monotonic() + LAKE_AWAY_S
    while True:
        try:
            return ask()
        except LockLost:
            raise
        except (LakeError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)
