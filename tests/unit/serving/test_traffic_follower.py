"""When a server shares a model's requests, and when it stops to, whatever becomes of who told it to."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.serving import traffic_follower
from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.http_answers import REPLAY
from mlops_assets.serving.lake_files import LakeFolder
from mlops_assets.serving.model_repository import Repository
from mlops_assets.serving.traffic import Candidate, Observed, Traffic, traffic_key
from mlops_assets.serving.traffic_follower import TrafficFollower
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Lake(LakeFolder):
    """A lake that can be away."""

    away = False

    def get(self, key: str) -> bytes | None:
        if self.away:
            raise ConnectionError("the lake is away")
        return super().get(key)


class Server:
    """A server of version 1 of `m`, and its lake."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder / "lake")
        signature = write_artifact(folder / "models/m/1")
        champion = ServedVersion(folder="1", sha256=signature.sha256, version="1")
        Declaration(champion=champion).write(folder / "models/m")
        self.repository = Repository(folder / "models")
        self.repository.load_all()
        self.follower = TrafficFollower(self.lake, self.repository)

    def tell(self, traffic_id: str = "a", champion: str = "1", beat: int = 0) -> None:
        candidate = Candidate(version="2", url="http://127.0.0.1:9", handed=0.1)
        traffic = Traffic(id=traffic_id, champion=champion, candidate=candidate, beat=beat)
        self.lake.put(traffic_key("m"), traffic.model_dump_json().encode())

    @property
    def split(self) -> str | None:
        """The id of the split in force."""
        found = self.follower.split("m")
        return found and found.traffic.id


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(traffic_follower, "LOOK_S", 0.02)
    monkeypatch.setattr(traffic_follower, "LEASE_S", 1.0)
    return Server(tmp_path)


def followed(server: Server, story: Callable[[Callable[..., Any]], Any]) -> None:
    """Follow while the story goes on, which may await what is to become true."""

    async def becomes(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def run() -> None:
        following = asyncio.create_task(server.follower.follow())
        await story(becomes)
        following.cancel()
        await server.follower.end()

    asyncio.run(run())


def test_a_split_begins_changes_and_ends_as_the_file_says(server: Server) -> None:
    async def story(becomes: Any) -> None:
        await asyncio.sleep(0.1)
        assert server.split is None
        server.tell("a")
        await becomes(lambda: server.split == "a")
        server.tell("b")
        await becomes(lambda: server.split == "b")
        (server.lake.folder / traffic_key("m")).unlink()
        await becomes(lambda: server.split is None)

    followed(server, story)
    seen = {path.parent.name: path for path in (server.lake.folder / "observed/m").rglob("*.json")}
    assert set(seen) == {"a", "b"}
    assert Observed.model_validate_json(seen["a"].read_bytes()).asked == 0, "that it follows is told at once"


def test_it_goes_on_while_somebody_watches_and_ends_with_them(server: Server) -> None:
    async def story(becomes: Any) -> None:
        for beat in range(8):
            server.tell(beat=beat)
            await asyncio.sleep(0.3)
            assert server.split == "a"
        await becomes(lambda: server.split is None)
        server.tell(beat=9)
        await becomes(lambda: server.split == "a")

    followed(server, story)


def test_it_outlives_a_lake_that_is_away_for_a_moment_and_no_longer(server: Server) -> None:
    async def story(becomes: Any) -> None:
        server.tell()
        await becomes(lambda: server.split == "a")
        server.lake.away = True
        await asyncio.sleep(0.3)
        assert server.split == "a"
        await becomes(lambda: server.split is None)
        server.lake.away = False
        server.tell(beat=1)
        await becomes(lambda: server.split == "a")

    followed(server, story)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_neither_ends_a_split_nor_keeps_it(
    server: Server, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time

    async def story(becomes: Any) -> None:
        server.tell()
        await becomes(lambda: server.split == "a")
        monkeypatch.setattr(time, "time", lambda: real() + 3_600 * hours)
        for beat in range(1, 6):
            server.tell(beat=beat)
            await asyncio.sleep(0.3)
            assert server.split == "a"
        await becomes(lambda: server.split is None)

    followed(server, story)


def test_with_what_it_has_seen_it_says_how_requests_came_before(server: Server) -> None:
    model = server.repository.models["m"]
    inputs = {"x": np.ones((1, 1), np.float32)}

    def told(traffic_id: str) -> Observed:
        async def story(becomes: Any) -> None:
            server.tell(traffic_id)
            await becomes(lambda: server.split == traffic_id)

        followed(server, story)
        [path] = (server.lake.folder / "observed/m" / traffic_id).iterdir()
        return Observed.model_validate_json(path.read_bytes())

    model.asked_at -= 100  # it was loaded then
    model.answer("golden-rows", inputs, time.perf_counter(), 10, REPLAY)
    young = told("a")
    assert (young.asked_before, young.idle_s) == (0, pytest.approx(100, abs=20)), "a roll-out's own requests are none"
    model.answer("r1", inputs, time.perf_counter(), 10)
    asked = told("b")
    assert asked.asked_before == 1
    assert asked.idle_s is not None
    assert asked.idle_s < 20


@pytest.mark.parametrize("champion", ["2", "0"])
def test_a_server_of_another_version_does_not_share(server: Server, champion: str) -> None:
    async def story(becomes: Any) -> None:
        server.tell(champion=champion)
        await asyncio.sleep(0.3)
        assert server.split is None

    followed(server, story)


@pytest.mark.parametrize("content", [b"", b"{}", b"not JSON", b'{"id": "a", "champion": "1", "candidate": {}}'])
def test_a_file_that_is_none_shares_nothing_and_breaks_nothing(server: Server, content: bytes) -> None:
    async def story(becomes: Any) -> None:
        server.tell()
        await becomes(lambda: server.split == "a")
        server.lake.put(traffic_key("m"), content)
        await becomes(lambda: server.split is None)
        server.tell("b")
        await becomes(lambda: server.split == "b")

    followed(server, story)
