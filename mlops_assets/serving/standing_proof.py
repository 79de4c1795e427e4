"""Whether models still answer their golden rows as in training: what readiness means after a model has been loaded.

A model is loaded only when it has answered them. What may change after that is the machine: a GPU that has fallen off,
memory that is full. Then each answer is an error or wrong, while the port is open.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.serving.predictor import PROOF_WITHIN_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_assets.serving.predictor import Predictor

PROVE_AGAIN_S = 10
HUNG_S = 2 * PROOF_WITHIN_S  # a graph is ended after PROOF_WITHIN_S; a driver that hangs is not


class _Look:
    """What the last look at a model has found, and when the next one began."""

    def __init__(self, now: float) -> None:
        self.looked_at = now
        self.began_at: float | None = None
        self.fault: str | None = None


class StandingProofs:
    """Proves models again while they are asked whether they are ready.

    Who asks never waits: a proof runs in a thread of its own, and what the last one found is said meanwhile. So a
    server that is only slow stays ready, and its callers are told to come back by its own limits.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._looks = clock, WeakKeyDictionary["Predictor", _Look]()

    def fault(self, model: Predictor) -> str | None:
        """Why a model is not to be asked; None while its last proof holds."""
        now = self._clock()
        look = self._looks.setdefault(model, _Look(now))
        if look.began_at is not None:
            return look.fault if now < look.began_at + HUNG_S else f"it has not answered for {HUNG_S} s"
        if now >= look.looked_at + PROVE_AGAIN_S:
            look.began_at = now
            threading.Thread(target=self._prove, args=(model, look), name="golden-rows", daemon=True).start()
        return look.fault

    def _prove(self, model: Predictor, look: _Look) -> None:
        try:
            model.prove()
        except ArtifactError as error:
            look.fault = str(error)
        else:
            look.fault = None
        finally:
            look.looked_at, look.began_at = self._clock(), None
