"""The ledger of the aliases: what had an alias at a moment, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DataError
from resources.tracking.alias_ledger import AliasLedger, actor

if TYPE_CHECKING:
    from resources.lake.lake import Lake

NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)


def written(lake: Lake, alias: str, version: int | None, hours: float, previous: int | None = None) -> None:
    """A move some hours after noon."""
    entry = {"alias": alias, "version": version, "sha256": "a" * 64, "reason": f"because {version}", "actor": "ann"}
    moment = (NOON + timedelta(hours=hours)).timestamp()
    lake.append("m/ledger", entry | {"previous_version": previous, "evidence": {"rows": 9}, "time": moment})


@pytest.fixture
def ledger(lake: Lake) -> AliasLedger:
    """Version 1 from noon to one, then none, and version 2 from three."""
    written(lake, "challenger", 2, -1)
    written(lake, "champion", 1, 0)
    written(lake, "champion", None, 1, previous=1)
    written(lake, "challenger", 3, 2)
    written(lake, "champion", 2, 3)
    return AliasLedger(lake, "m")


@pytest.mark.parametrize(
    ("hours", "version", "since", "until"), [(0, 1, 0, 1), (0.99, 1, 0, 1), (1, None, 1, 3), (2, None, 1, 3)]
)
def test_at_a_moment_the_last_move_before_it_counts(
    ledger: AliasLedger, hours: float, version: int | None, since: float, until: float
) -> None:
    move = ledger.at("champion", NOON + timedelta(hours=hours))
    assert move is not None
    assert (move.version, move.reason, move.actor) == (version, f"because {version}", "ann")
    assert move.evidence == {"rows": 9}
    assert (move.since, move.until) == (NOON + timedelta(hours=since), NOON + timedelta(hours=until))


def test_before_the_first_move_nothing_is_known_and_the_last_one_has_no_end(ledger: AliasLedger) -> None:
    assert ledger.at("champion", NOON - timedelta(seconds=1)) is None
    last = ledger.at("champion", NOON + timedelta(days=900))
    assert last is not None
    assert (last.version, last.until) == (2, None)
    assert (ledger.last_version("champion"), ledger.last_version("challenger")) == (2, 3)


def test_a_model_without_a_ledger_had_no_champion(lake: Lake) -> None:
    assert AliasLedger(lake, "other").at("champion", NOON) is None
    assert AliasLedger(lake, "other").last_version("champion") is None


@pytest.mark.parametrize("entry", [{"alias": "champion"}, {"alias": 3, "version": "x", "time": 1}, {"time": None}])
def test_an_entry_that_is_no_move_is_told(lake: Lake, entry: dict[str, Any]) -> None:
    lake.append("m/ledger", entry)
    with pytest.raises(DataError, match="Entry 1 of m/ledger in .* is no move of an alias; restore"):
        AliasLedger(lake, "m").moves("champion")


@pytest.mark.parametrize(
    ("tags", "told"),
    [({"user": "ann"}, "user ann"), ({"dagster/schedule_name": "nightly"}, "schedule_name nightly"), ({}, "run r")],
)
def test_who_moves_an_alias_is_the_user_or_what_started_the_run(tags: dict[str, str], told: str) -> None:
    run: Any = SimpleNamespace(run_id="r", tags=tags)
    assert actor(run) == told
