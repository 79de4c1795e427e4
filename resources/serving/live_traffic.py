"""Steers how the champion's servers share a model's requests, through the lake, and reads there what they saw."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mlops_assets.ml.errors import LakeError
from mlops_assets.serving.traffic import BEAT_S, Observed, Traffic, observed_folder, traffic_key

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mlops_assets.serving.rollout_policy import RolloutPolicy
    from mlops_assets.serving.traffic import Candidate
    from resources.lake.object_store import ObjectStore


class LiveTraffic:
    """The live requests of one model. `check` raises a LakeError when another process may steer them by now."""

    def __init__(self, store: ObjectStore, model: str, policy: RolloutPolicy, check: Callable[[], None]) -> None:
        self.store, self.model, self.policy, self.check = store, model, policy, check

    @contextmanager
    def shared(self, champion: str, candidate: Candidate) -> Generator[Traffic]:
        """Have the servers of a version share its requests with a candidate while the block runs.

        They are told every few seconds that somebody watches, so that a split ends with whoever began it.
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

        write(0)
        beats = threading.Thread(target=go_on, daemon=True)
        beats.start()
        try:
            yield traffic
        finally:
            ended.set()
            beats.join()
            self.end()

    def end(self) -> None:
        """Have the champion answer all requests, and forget what was seen.

        Raises:
            LakeError: another process steers them by now, or the lake is away; then a split ends by itself.
        """
        self.check()
        self.store.delete(traffic_key(self.model))
        self.store.delete_many([item.key for item in self.store.stored(f"observed/{self.model}")])

    def observed(self, traffic: Traffic) -> tuple[Observed, int]:
        """What all servers have seen under a split, and how many they are."""
        items = self.store.list(f"{observed_folder(self.model, traffic.id)}/*.json")
        seen, servers = Observed(), 0
        for item in items:
            content = self.store.read(item.key)
            with suppress(ValidationError):  # of a server of another release
                seen, servers = seen + Observed.model_validate_json(content or b""), servers + 1
        return seen, servers
