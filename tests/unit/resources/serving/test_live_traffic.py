"""What of a model's live requests is asked of the lake, and a lake that is away for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import LakeError, LockLost
from mlops_assets.serving.rollout_policy import RolloutPolicy
from mlops_assets.serving.traffic import Candidate, Observed, Traffic, observed_folder, traffic_key
from resources.lake.folder_store import FolderStore
from resources.serving import live_traffic
from resources.serving.live_traffic import LiveTraffic, patiently

if TYPE_CHECKING:
    from pathlib import Path

CANDIDATE = Candidate(version="2", url="http://there", mirrored=0.1)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_traffic, "LAKE_AWAY_S", 0.2)
    monkeypatch.setattr(live_traffic, "PAUSE_S", 0.01)


class Away(FolderStore):
    """A lake that is away for the next so many writes."""

    times = 0

    def replace(self, key: str, content: bytes) -> None:
        if self.times:
            self.times -= 1
            raise LakeError("503 Slow Down")
        super().replace(key, content)

    def delete(self, key: str) -> None:
        if self.times:
            raise LakeError("503 Slow Down")
        super().delete(key)


def test_a_split_stands_in_the_lake_while_the_block_runs(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    live = LiveTraffic(store, "m", RolloutPolicy(), lambda: None)
    with live.shared("1", CANDIDATE) as traffic:
        assert Traffic.model_validate_json(store.read(traffic_key("m")) or b"") == traffic
        assert live.observed(traffic) == (Observed(), 0)
        seen = Observed(asked=3, idle_s=5.0)
        folder = observed_folder("m", traffic.id)
        store.replace(f"{folder}/a.json", seen.model_dump_json().encode())
        store.replace(f"{folder}/b.json", b'{"asked": 2, "idle_s": 1, "what comes later": 1}')
        store.replace(f"{folder}/c.json", b'{"asked": "many"}')
        assert live.observed(traffic) == (Observed(asked=5, idle_s=1.0), 2)
    assert list(store.stored()) == []


def test_a_lake_that_is_away_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    store = Away(tmp_path)
    store.times = 3
    with LiveTraffic(store, "m", RolloutPolicy(), lambda: None).shared("1", CANDIDATE):
        assert store.read(traffic_key("m"))
    assert store.read(traffic_key("m")) is None


def test_a_lake_that_stays_away_begins_no_split_and_hides_no_reason_at_its_end(tmp_path: Path) -> None:
    store = Away(tmp_path)
    live = LiveTraffic(store, "m", RolloutPolicy(), lambda: None)
    store.times = 1_000_000
    with pytest.raises(LakeError, match="503"), live.shared("1", CANDIDATE):
        pytest.fail("it has not begun")
    store.times = 0
    with pytest.raises(KeyError, match="the reason"), live.shared("1", CANDIDATE):
        store.times = 1_000_000
        raise KeyError("the reason")


def test_who_has_lost_the_lock_is_told_at_once_and_touches_nothing(tmp_path: Path) -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        raise LockLost("the lock was taken over")

    store = FolderStore(tmp_path)
    store.replace(traffic_key("m"), b"another's")
    live = LiveTraffic(store, "m", RolloutPolicy(), check)
    with pytest.raises(LockLost):
        live.end()
    with pytest.raises(LockLost), live.shared("1", CANDIDATE):
        pytest.fail("it has not begun")
    assert (asked, store.read(traffic_key("m"))) == (2, b"another's")


def test_what_is_no_trouble_of_the_lake_is_raised_at_once() -> None:
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        patiently(ask)
    assert asked == 1
