"""deployment: which version is to be served, and what the ledger says of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mlops_assets.assets.deployment import Verdict, ledger_evidence, version_to_serve
from mlops_assets.assets.handles import Comparison, Evaluation, Lineage, RegisteredModel
from resources.serving.golden_rows import Proof
from resources.tracking.model_registry import RegisteredVersion
from tests.support import prepared

CHAMPION = RegisteredVersion(model="weather", version=3, sha256="c" * 64, run_id="r3")
NEW = RegisteredVersion(model="weather", version=4, sha256="d" * 64, run_id="r4")
WINS = Comparison(champion=3, wins=True, reason="beats champion version 3")
LOSES = Comparison(champion=3, wins=False, reason="does not beat champion version 3")
REGISTERED = RegisteredModel(
    **NEW.model_dump(),
    evaluation=Evaluation(
        lineage=Lineage(until=datetime(2025, 3, 1, tzinfo=UTC), overridden={"evaluation.gate": "a holiday"}),
        prefix="w/evaluation",
        version="e",
        sha256="d" * 64,
        prepared=prepared(),
        metrics={"accuracy": 0.9},
        comparison=WINS,
    ),
)


def verdict(comparison: Comparison, **changed: Any) -> Verdict:
    return Verdict(**{"champion": CHAMPION, "comparison": comparison, "older": None, "overridden": {}} | changed)


def served(comparison: Comparison, **changed: Any) -> RegisteredVersion:
    return version_to_serve(REGISTERED, verdict(comparison, **changed))


def test_a_better_version_takes_the_champions_place() -> None:
    assert served(WINS) == NEW


def test_a_worse_version_leaves_the_champion_where_it_is() -> None:
    assert served(LOSES) == CHAMPION


def test_a_version_of_older_data_leaves_the_champion_where_it_is() -> None:
    assert served(WINS, older="its data ends 2025-02-28") == CHAMPION
    assert verdict(WINS, older="its data ends in May").reason == "its data ends in May; beats champion version 3"


def test_a_run_may_override_what_speaks_against_a_version_but_only_what_it_names() -> None:
    newest, beats = {"newest_data": "March is broken"}, {"beats_champion": "asked by the owner"}
    assert served(WINS, older="old", overridden=newest) == NEW
    assert served(LOSES, overridden=beats) == NEW
    assert served(LOSES, older="old", overridden=newest) == CHAMPION
    assert served(LOSES, older="old", overridden=newest | beats) == NEW
    assert verdict(LOSES, overridden=beats).reason.endswith("; beats_champion is overridden: asked by the owner")


def test_without_a_champion_the_new_version_is_served() -> None:
    assert served(LOSES, champion=None) == NEW


def test_the_ledger_has_every_override_on_the_way_with_its_reason() -> None:
    proof = Proof(url="u", model="m", link=None, rows=16, difference=1e-7, example="curl")
    found = ledger_evidence(REGISTERED, verdict(LOSES, overridden={"beats_champion": "asked"}), proof)
    assert found["overridden"] == {"evaluation.gate": "a holiday", "deployment.beats_champion": "asked"}
    assert found["data_until"] == "2025-03-01T00:00:00+00:00"
