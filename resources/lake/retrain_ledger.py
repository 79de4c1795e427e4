"""The ledger of retrains: what was decided, once for each cause, and which run it became.

An entry is `retrains/<model>/<key>.json`, created once, before any run is asked for. By it a retrain is neither lost
nor doubled, whatever happens to who decides:

- One who dies before the entry has decided nothing. One who dies after it leaves an entry without a run, and whoever
  looks `PATIENCE` later asks for the run again; who does says so first, in `<key>.again-<n>`, which one can create.
- Of two who decide at once, one has the lock, under which the history is read again; the other then finds the entry.
- The run takes the entry by `<key>.run` before it does anything. So a second run for the same entry, asked for by one
  who slept longer than `PATIENCE`, or after Dagster's database was restored, ends there.
- The outcome is not kept here. It is that of the run, as Dagster has it; a run that is not there any more, but has
  taken its entry, was deleted, and is not begun again.

A cursor decides none of this, and may be lost.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from pydantic import AwareDatetime, Field, ValidationError

from mlops_assets.ml.automation.retrain_policy import Cause, RetrainFacts
from mlops_assets.ml.errors import DataError, SpecError
from mlops_assets.ml.values import Value
from resources.lake.lake_lock import HeldLock, lake_lock

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import dagster as dg

    from resources.lake.lake import Lake

Kind = TypeVar("Kind", bound=Value)
FOLDER, LOCK = "retrains", "lock"
LOCK_WAIT_S = 2.0
PATIENCE = timedelta(minutes=5)
"""Longer than Dagster takes to make a run of what a tick has asked for."""
RETRAIN, REASON, WINDOW, BECAUSE = (
    "mlops/retrain",
    "mlops/retrain_reason",
    "mlops/retrain_window",
    "mlops/retrain_because",
)
SCHEDULE = "schedule"  # the reason of runs that the YAML's schedule starts; they have no entry


class RetrainEntry(Value):
    """A retrain that was decided, with what was known then."""

    model: str
    key: str
    cause: Cause
    window: date | None
    reason: str
    facts: RetrainFacts
    decided_at: AwareDatetime
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    """Tells this entry from another writer's, where the answer of the store was lost."""

    @property
    def tags(self) -> dict[str, str]:
        """The tags of its run."""
        window = {WINDOW: str(self.window)} if self.window else {}
        return {RETRAIN: self.key, REASON: self.cause, BECAUSE: self.reason, **window}


class BegunRun(Value):
    """What a run writes that takes an entry."""

    run_id: str
    source_version: str


class RecordedRetrain(Value):
    """An entry, the run that has taken it, and how often its run was asked for again."""

    entry: RetrainEntry
    begun: BegunRun | None
    again: int


class RetrainLedger:
    """The retrains of all models of the lake's space. `known` keeps what was read and never changes."""

    def __init__(self, lake: Lake, known: dict[str, Value] | None = None) -> None:
        self.lake, self._known = lake, {} if known is None else known

    def write(self, entry: RetrainEntry) -> bool:
        """Add an entry; whether it is this one that counts."""
        return self.lake.store.create(self._place(entry.model, entry.key) + ".json", entry.model_dump_json().encode())

    def ask_again(self, retrain: RecordedRetrain, now: datetime) -> bool:
        """Whether the run of an entry that has none is to be asked for again, by nobody but the caller."""
        entry = retrain.entry
        if now < entry.decided_at + PATIENCE * (retrain.again + 1):
            return False
        number = (now - entry.decided_at) // PATIENCE
        place = f"{self._place(entry.model, entry.key)}.again-{number}"
        return self.lake.store.create(place, uuid.uuid4().hex.encode())

    def begin(self, run: dg.DagsterRun, model: str, source_version: str) -> None:
        """Take the entry that a run was asked for by, if it was by one; a run that it re-executes may have taken it.

        `source_version` is what the run is made from.

        Raises:
            SpecError: another run has taken it.
        """
        key, run_id = run.tags.get(RETRAIN), run.root_run_id or run.run_id
        if key is None:
            return
        place, begun = f"{self._place(model, key)}.run", BegunRun(run_id=run_id, source_version=source_version)
        if not self.lake.store.create(place, begun.model_dump_json().encode()):
            taken = self._read(place, BegunRun).run_id
            if taken != run_id:
                what = f"The retrain {key} of {model} is run {taken} already"
                raise SpecError(what, remedy=f"look there; a run without the tag {RETRAIN} is one of its own")

    def places(self, model: str = "*") -> dict[str, list[str]]:
        """What the ledger holds, by model, for `retrains`."""
        found = dict[str, list[str]]()
        name = self.lake.name_of(model) if model != "*" else model
        for place in self.lake.store.sizes(f"{FOLDER}/{name}/**/*"):
            for mine in self.lake.models_of([place.split("/")[1]]):
                found.setdefault(mine, []).append(place)
        return found

    @contextmanager
    def lock(self, model: str) -> Generator[HeldLock]:
        """Run the block while nobody else decides about the model.

        Raises:
            LakeError: others do for `LOCK_WAIT_S`; or this process was asleep for so long that another has taken over.
        """
        # Not the lake's, which lies beside: who decides may write below this folder alone
        with lake_lock(self.lake.store, f"{FOLDER}/{self.lake.name_of(model)}", wait_s=LOCK_WAIT_S) as held:
            yield held

    def retrains(self, places: Sequence[str]) -> list[RecordedRetrain]:
        """The retrains of a model, the oldest first.

        Raises:
            DataError: an entry is damaged.
        """
        asked = dict[str, int]()
        for stem, _, number in (place.rpartition(".again-") for place in places):
            if stem and number.isdecimal():
                asked[stem] = max(int(number), asked.get(stem, 0))
        runs = {place.removesuffix(".run"): self._read(place, BegunRun) for place in places if place.endswith(".run")}
        found = [
            RecordedRetrain(entry=self._read(place, RetrainEntry), begun=runs.get(stem), again=asked.get(stem, 0))
            for place in places
            if place.endswith(".json") and place.split("/")[2] != LOCK
            for stem in [place.removesuffix(".json")]
        ]
        return sorted(found, key=lambda retrain: retrain.entry.decided_at)

    def _read(self, place: str, kind: type[Kind]) -> Kind:
        known = self._known.get(place)
        if isinstance(known, kind):
            return known
        try:
            found = kind.model_validate_json(self.lake.store.read(place) or b"")
        except ValidationError as error:
            what = f"{place} in {self.lake.uri} is damaged, or of a newer release: no {kind.__name__} of the retrains"
            remedy = "go on with that release, restore the object from a copy, or move it away"
            raise DataError(what, remedy=remedy) from error
        self._known[place] = found
        return found

    def _place(self, model: str, key: str) -> str:
        return f"{FOLDER}/{self.lake.name_of(model)}/{quote(key)}"


def retrain_tags(run: dg.DagsterRun) -> dict[str, str]:
    """Why a run retrains, as tags of a version and in a ledger; empty for other runs."""
    return {name: run.tags[name] for name in (RETRAIN, REASON, WINDOW, BECAUSE) if name in run.tags}
