"""The ledger of a model's aliases: every move in its order, with who made it, why, and on what evidence."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import ValidationError

from mlops_assets.ml.errors import DataError
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from resources.lake.lake import Lake


class AliasMove(Value):
    """A move of an alias to `version`; None where it was taken off. `until` is when the next move of it was made."""

    alias: str
    version: int | None
    previous_version: int | None
    sha256: str | None
    reason: str
    actor: str
    evidence: dict[str, Any]
    since: datetime
    until: datetime | None = None


class AliasLedger:
    """The ledger of one model in the lake's space. Moves that were made in MLflow by hand are not in it."""

    def __init__(self, lake: Lake, model: str) -> None:
        self.lake, self._prefix = lake, f"{model}/ledger"

    def write(
        self,
        alias: str,
        version: int | None,
        sha256: str | None,
        reason: str,
        actor: str,
        previous: int | None,
        evidence: dict[str, Any],
    ) -> None:
        """Add a move."""
        entry = {"alias": alias, "version": version, "sha256": sha256, "reason": reason}
        self.lake.append(self._prefix, entry | {"actor": actor, "previous_version": previous, "evidence": evidence})

    def moves(self, alias: str) -> list[AliasMove]:
        """The moves of an alias, the oldest first.

        Raises:
            DataError: an entry is damaged.
        """
        found = [move for move in self._all() if move.alias == alias]
        return [
            move.model_copy(update={"until": later.since if later else None})
            for move, later in zip_longest(found, found[1:])
        ]

    def _all(self) -> list[AliasMove]:
        return [self._move(entry) for entry in self.lake.entries(self._prefix)]

    def _move(self, entry: dict[str, Any]) -> AliasMove:
        told = AliasMove.model_fields.keys() & entry.keys()
        try:
            return AliasMove(**{name: entry[name] for name in told}, since=datetime.fromtimestamp(entry["time"], UTC))
        except (KeyError, TypeError, ValidationError) as error:
            what = f"Entry {entry.get('number')} of {self._prefix} in {self.lake.uri} is no move of an alias"
            raise DataError(what, remedy="restore the object from a copy, or move it away") from error

    def at(self, alias: str, moment: datetime) -> AliasMove | None:
        """The last move of an alias before a moment, by which the version that had it then is known."""
        return next((move for move in reversed(self.moves(alias)) if move.since <= moment), None)

    def digest_of(self, version: str) -> str | None:
        """The digest of a version that has ever had an alias."""
        return next((move.sha256 for move in reversed(self._all()) if str(move.version) == version), None)

    def last_version(self, alias: str) -> int | None:
        """The version that has an alias now, as the ledger says."""
        moves = self.moves(alias)
        return moves[-1].version if moves else None


def actor(run: dg.DagsterRun) -> str:
    """Who moves an alias: the user of the run, or the automation that started it."""
    for tag in ("user", "dagster/schedule_name", "dagster/sensor_name"):
        if tag in run.tags:
            return f"{tag.removeprefix('dagster/')} {run.tags[tag]}"
    return f"run {run.run_id}"
