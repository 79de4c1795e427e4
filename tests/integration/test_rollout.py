"""Roll-outs by proof on this machine: real servers, callers that never stop, and versions that are good or broken."""

from __future__ import annotations

import errno
import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.errors import DeploymentError, LakeError, LockLost
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.rollout_policy import RolloutPolicy
from mlops_assets.serving.traffic import lies_within, traffic_key
from resources.lake.folder_store import FolderStore
from resources.lake.lake import Lake
from resources.serving import live_traffic, replay, rollout
from resources.serving.live_traffic import LiveTraffic
from resources.serving.local_serving import LocalServing
from resources.serving.rollout import FOLLOWED_S, MOVES, NOBODY_S
from tests.artifacts import write_artifact
from tests.support import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlops_assets.serving.declaration import ServedVersion
    from resources.lake.object_store import ObjectStore
    from resources.serving.golden_rows import Endpoint, Proof

MODEL = "m"
QUICK: dict[str, Any] = {
    "shadow_requests": 60,
    "shadow_percent": 50,
    "canary_requests": 60,
    "canary_percent": 30,
    "patience": "60s",
    "max_latency_ratio": 8,  # of servers that share two cores with all other tests
    "bake": "3s",
}


class Place:
    """A target with its lake, where version 1 of `m` doubles its number."""

    is_away = is_taken_over = False
    store: ObjectStore

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake(uri=str(folder / "lake"), cache=str(folder / "cache"))
        self.store = self.lake.store
        self.serving = LocalServing(state=str(folder / "serving"), port=free_port(), lake_uri=str(folder / "lake"))
        self.steps, self.log = list[Any](), InferenceLogPolicy()
        self.deploy(1)

    def deploy(self, version: int, factor: float = 2.0, **policy: Any) -> Proof:
        """Deploy a version that multiplies by a factor."""
        self.steps.clear()
        artifact = self.folder / f"{version}-{factor}"
        sha256 = write_artifact(artifact, factor).sha256 if not artifact.exists() else _digest(artifact)
        live = LiveTraffic(self.store, MODEL, RolloutPolicy.model_validate(QUICK | policy), self.check)
        return self.serving.deploy(MODEL, artifact, sha256, version, self.log, live, self.record)

    def record(self, step: Any) -> None:
        """Keep a step; a lake that is away does not."""
        self.steps.append(step)
        if self.is_away:
            raise LakeError("the lake is away")

    def check(self) -> None:
        """Whether another process has taken over."""
        if self.is_taken_over:
            raise LockLost("the lock was taken over")

    @property
    def states(self) -> list[str]:
        return [step.state for step in self.steps]

    def found(self, state: str) -> str:
        """What was found at a state."""
        [step] = [step for step in self.steps if step.state == state]
        return step.found

    @property
    def version(self) -> str | None:
        served = self.serving.current(MODEL)
        return served and served.version

    def traffic(self) -> dict[str, Any] | None:
        content = self.lake.store.read(traffic_key(MODEL))
        return json.loads(content) if content else None


def _digest(artifact: Path) -> str:
    return json.loads((artifact / "model.json").read_text())["sha256"]


@pytest.fixture
def place(tmp_path: Path) -> Generator[Place]:
    made = Place(tmp_path)
    yield made
    made.serving.stop()


class Callers:
    """Ask all the time, each with a number of its own; what they got, as (status, version, answer / number)."""

    def __init__(self, place: Place) -> None:
        self.url = f"{place.serving.server.url}/v1/models/{MODEL}:predict"
        self.stop, self.answers = threading.Event(), list[tuple[int, str, float]]()

    def __enter__(self) -> Callers:
        self.pool = ThreadPoolExecutor(4)
        self.futures = [self.pool.submit(self._ask, seed) for seed in range(4)]
        return self

    def _ask(self, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        for index in range(1_000_000):
            if self.stop.is_set():
                return
            x = float(numbers.normal(5, 2))
            body = json.dumps({"instances": [{"x": x}]}).encode()
            headers = {"content-type": "application/json", "x-request-id": f"r{seed}-{index}"}
            request = urllib.request.Request(self.url, body, headers)
            try:
                with urllib.request.urlopen(request, timeout=20) as response:
                    content = json.load(response)
                    [answer] = content["predictions"]
                    assert response.headers["x-model-version"] == content["model_version"]
                    self.answers.append((200, content["model_version"], round(answer / x, 3)))
            except urllib.error.HTTPError as error:
                self.answers.append((error.code, "", 0.0))
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for future in self.futures:
            future.result()
        self.pool.shutdown()

    def versions(self) -> dict[str, int]:
        """How many answers came of each version."""
        names = [version for _, version, _ in self.answers]
        return {name: names.count(name) for name in sorted(set(names))}


def log_some_requests(place: Place) -> None:
    """Requests of a moment ago, in the lake."""
    with Callers(place) as callers:
        wait_until(lambda: len(callers.answers) > 100)
    place.serving.server.stop()
    place.serving.server.ensure_running()


def test_a_better_version_passes_every_proof_and_no_caller_notices(place: Place) -> None:
    log_some_requests(place)
    with Callers(place) as callers:
        proof = place.deploy(2, 2.02)
        wait_until(lambda: callers.answers[-1][1] == "2")
    assert place.states == ["prepared", "ready", "golden", "replayed", "shadowed", "canary", "promoted", "baked"]
    assert {code for code, _, _ in callers.answers} == {200}
    assert {(version, factor) for _, version, factor in callers.answers} == {("1", 2.0), ("2", 2.02)}
    assert callers.versions()["2"] > 50
    assert "0 of " in place.found("canary")
    assert place.found("baked").startswith("0 of ")
    assert [step.state for step in proof.steps] == place.states
    assert all(candidate == pytest.approx(1.01 * champion, rel=1e-5) for champion, candidate in proof.pairs)
    assert len(proof.pairs) > 50
    assert place.version == "2"
    assert place.serving.candidates.pid() is None, "nothing is left of the candidate"
    assert place.traffic() is None
    assert list(place.lake.store.stored(f"observed/{MODEL}")) == []


def test_a_version_that_answers_otherwise_is_caught_in_the_shadow(place: Place) -> None:
    with Callers(place) as callers:
        with pytest.raises(DeploymentError, match=r"version 1 keeps answering: shadowed: .*spreads apart"):
            place.deploy(2, 5.0, replay_requests=0)
        time.sleep(1)
    assert place.states == ["prepared", "ready", "golden", "rolled_back"]
    assert set(callers.answers) == {(200, "1", 2.0)}
    assert place.traffic() is None
    assert place.version == "1"


def test_a_version_that_answers_otherwise_is_caught_by_the_log_before_anybody_asks_it(place: Place) -> None:
    log_some_requests(place)
    with pytest.raises(DeploymentError, match=r"replayed: .*spreads apart, at most 0.2"):
        place.deploy(2, 5.0)
    assert place.states[-1] == "rolled_back"


def post(url: str, content: Any, **headers: str) -> int:
    headers = {"content-type": "application/json", **headers}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(content).encode(), headers)) as response:
        return response.status


def log_some_requests_with_labels(place: Place, factor: float, count: int) -> None:
    """Requests of a moment ago, of which it has become known that the truth is their number times `factor`."""
    log_some_requests(place)
    url = f"{place.serving.server.url}/v1/models/{MODEL}"
    numbers = {f"late-{index}": float(index % 7 + 1) for index in range(count)}
    for request_id, x in numbers.items():
        post(f"{url}:predict", {"instances": [{"x": x}]}, **{"x-request-id": request_id})
    labels = [{"id": request_id, "label": factor * x} for request_id, x in numbers.items()]
    assert post(f"{url}/feedback", {"labels": labels}) == 200
    place.serving.server.stop()
    place.serving.server.ensure_running()


@pytest.mark.long
def test_what_mends_a_champion_that_has_become_wrong_is_judged_by_labels(place: Place) -> None:
    """The world has moved: what was twice the number is five times it now."""
    log_some_requests_with_labels(place, 5.0, 80)
    with Callers(place) as callers:
        proof = place.deploy(2, 5.0)
        wait_until(lambda: callers.answers[-1][1] == "2")
    assert place.states == ["prepared", "ready", "golden", "replayed", "shadowed", "canary", "promoted", "baked"]
    told = place.found("replayed")
    assert "by the labels of 80 requests it is nearer in 80 and less in 0 (chance 8e-25)" in told
    assert "spreads apart" in told
    assert told in [step["found"] for step in proof.evidence["rollout"]], "the ledger has it"
    assert {code for code, _, _ in callers.answers} == {200}


@pytest.mark.parametrize(
    ("truth", "count", "policy", "why"),
    [
        (2.0, 80, {}, r"at most 0.2 spreads may be; by the labels of 80 requests it is nearer in 0"),
        (5.0, 20, {}, "20 requests of them have labels, too few to judge by; 50 are needed"),
        (5.0, 80, {"judge_by_labels": False}, r"at most 0.2 spreads may be\.$"),
    ],
    ids=["it is wrong itself", "few labels", "not wanted"],
)
def test_labels_do_not_let_any_version_through(
    place: Place, truth: float, count: int, policy: dict[str, Any], why: str
) -> None:
    log_some_requests_with_labels(place, truth, count)
    with pytest.raises(DeploymentError, match=f"version 1 keeps answering: replayed: .*{why}"):
        place.deploy(2, 5.0, **policy)
    assert place.version == "1"


def test_a_candidate_that_dies_as_canary_costs_no_caller_an_answer(place: Place) -> None:
    failures = list[DeploymentError]()

    def deploy() -> None:
        try:
            place.deploy(2, 2.02, replay_requests=0, shadow_requests=0, canary_requests=100_000)
        except DeploymentError as error:
            failures.append(error)

    with Callers(place) as callers:
        thread = threading.Thread(target=deploy)
        thread.start()
        wait_until(lambda: callers.versions().get("2", 0) > 5)
        pid = place.serving.candidates.pid()
        assert pid
        os.kill(pid, signal.SIGKILL)
        thread.join(60)
        time.sleep(1)
    [failure] = failures
    assert "canary: " in str(failure)
    assert "it does not answer: " in str(failure)
    assert {code for code, _, _ in callers.answers} == {200}
    assert place.version == "1"
    assert {version for _, version, _ in callers.answers[-50:]} == {"1"}


def test_a_candidate_whose_server_is_taken_away_is_proved_anew_elsewhere(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a node that is drained; here the new server is on the same machine."""

    def elsewhere(serving: LocalServing, _: str) -> bool:
        return bool(serving.candidates.ensure_running())

    monkeypatch.setattr(LocalServing, "candidate_has_moved", elsewhere)

    def take_away() -> None:
        wait_until(lambda: callers.versions().get("2", 0) > 5)
        pid = place.serving.candidates.pid()
        assert pid
        os.kill(pid, signal.SIGKILL)

    with Callers(place) as callers:
        thread = threading.Thread(target=take_away)
        thread.start()
        place.deploy(2, 2.02, replay_requests=0, shadow_requests=0, canary_requests=500)
        thread.join()
    assert place.states == ["prepared", "ready", "golden", "ready", "canary", "promoted", "baked"]
    assert place.steps[3].found.startswith("again, after its server was taken away (canary: ")
    assert "it does not answer" in place.steps[3].found
    assert place.found("canary").startswith("0 of "), "the proof began anew"
    assert {code for code, _, _ in callers.answers} == {200}
    assert place.version == "2"


def test_a_candidate_that_fails_wherever_it_is_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalServing, "candidate_has_moved", lambda *_: True)
    with Callers(place), pytest.raises(DeploymentError, match=r"version 1 keeps answering: shadowed: "):
        place.deploy(2, 5.0, replay_requests=0)
    assert place.states == ["prepared", "ready", "golden", *["ready"] * MOVES, "rolled_back"]


SLOW = """
import time
from mlops_assets.serving import predictor
answer = predictor.Predictor.answer
def slowly(self, *given):
    time.sleep({seconds} if self.is_candidate else 0)
    return answer(self, *given)
predictor.Predictor.answer = slowly
"""


@pytest.mark.parametrize(
    ("seconds", "deadline", "reason"),
    [(0.1, "9s", "99 % within"), (2.0, "1s", "it does not answer within 1 s")],
    ids=["slow", "late"],
)
def test_a_slow_version_is_caught_by_its_time(
    place: Place, seconds: float, deadline: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(
        "import threading, sys\n"
        "def late():\n"
        "    import time\n"
        "    while 'mlops_assets.serving.predictor' not in sys.modules or not hasattr("
        "sys.modules['mlops_assets.serving.predictor'], 'Predictor'): time.sleep(0.005)\n"
        f"    exec({SLOW.format(seconds=seconds)!r}, {{}})\n"
        "threading.Thread(target=late, daemon=True).start()\n"
    )
    real = LocalServing._server

    def slowed(self: LocalServing, name: str, port: int, more: list[str]) -> Any:
        server = real(self, name, port, more)
        if name == "candidates":
            server.environment = {"PYTHONPATH": f"{tmp_path / 'slow'}:{server.environment['PYTHONPATH']}"}
        return server

    monkeypatch.setattr(LocalServing, "_server", slowed)
    with Callers(place) as callers:
        with pytest.raises(DeploymentError) as caught:
            place.deploy(2, 2.02, replay_requests=0, shadow_requests=120, deadline=deadline, max_latency_ratio=2)
        assert place.version == "1"
    assert reason in str(caught.value)
    assert {code for code, _, _ in callers.answers} == {200}


def test_one_user_sees_one_version_where_a_header_says_who_asks(place: Place) -> None:
    seen = dict[str, set[str]]()

    class Users(Callers):
        def _ask(self, seed: int) -> None:
            numbers = np.random.default_rng(seed)
            while not self.stop.is_set():
                user = f"u{numbers.integers(40)}"
                body = json.dumps({"instances": [{"x": float(numbers.normal(5, 2))}]}).encode()
                request = urllib.request.Request(self.url, body, {"x-user": user})
                with urllib.request.urlopen(request, timeout=20) as response:
                    version = json.load(response)["model_version"]
                traffic = place.traffic()
                if traffic and traffic["beat"] >= 1:
                    seen.setdefault(user, set()).add(version)
                self.answers.append((200, version, 0.0))
                time.sleep(0.005)

    with Users(place):
        policy = {"shadow_requests": 0, "canary_requests": 800, "canary_header": "x-user", "bake": None}
        place.deploy(2, 2.02, replay_requests=0, **policy)
    assert {len(versions) for versions in seen.values()} == {1}
    assert {version for versions in seen.values() for version in versions} == {"1", "2"}


def test_without_requests_a_version_is_promoted_on_what_it_has_shown(place: Place) -> None:
    begin = time.monotonic()
    place.deploy(2, 9.0)
    assert time.monotonic() - begin < 20, "nobody waits for requests where none came for an hour"
    assert place.states == ["prepared", "ready", "golden", "replayed", "shadowed", "promoted"]
    assert place.found("shadowed") == "no: nobody has asked for an hour"


def ask(place: Place) -> None:
    """One request, which the log has not stored yet."""
    assert post(f"{place.serving.server.url}/v1/models/{MODEL}:predict", {"instances": [{"x": 1.0}]}) == 200


@pytest.mark.long
def test_a_server_that_was_asked_a_moment_ago_does_not_count_as_one_that_nobody_asks(place: Place) -> None:
    """Its log of the last half minute is still to come."""
    ask(place)
    begin = time.monotonic()
    place.deploy(2, 2.02)
    assert time.monotonic() - begin > NOBODY_S
    assert "too little traffic: 0 of 60 requests within" in place.found("shadowed")


@pytest.mark.long
def test_servers_that_were_just_started_do_not_count_as_ones_that_nobody_asks(place: Place) -> None:
    """A model was asked all the time; its server begins anew, and callers come back to it."""
    log_some_requests(place)
    callers = list[Callers]()

    def come_back() -> None:
        time.sleep(FOLLOWED_S + 3)  # they have waited for a minute, as some do
        callers.append(Callers(place).__enter__())

    thread = threading.Thread(target=come_back)
    thread.start()
    place.deploy(2, 2.02, bake=None)
    thread.join()
    callers[0].__exit__()
    assert place.states == ["prepared", "ready", "golden", "replayed", "shadowed", "canary", "promoted"]
    assert "too little traffic" not in place.found("shadowed")


@pytest.mark.long
def test_where_no_server_follows_nobody_says_that_nobody_asks(place: Place) -> None:
    log_some_requests(place)
    place.serving.server.stop()
    place.deploy(2, 2.02, patience="25s", bake=None)
    assert "no server of the champion follows within 2" in place.found("shadowed")


@pytest.mark.long
def test_callers_with_one_id_for_all_requests_are_told_why_the_candidate_has_none_of_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "HONOURED_S", 8.0)

    class OneId(Callers):
        def _ask(self, seed: int) -> None:
            while not self.stop.is_set():
                body = json.dumps({"id": "always", "instances": [{"x": 1.0}]}).encode()
                with urllib.request.urlopen(urllib.request.Request(self.url, body), timeout=20) as response:
                    self.answers.append((200, json.load(response)["model_version"], 0.0))
                time.sleep(0.005)

    assert not lies_within(0.3, "always", "canary")
    policy = {"replay_requests": 0, "shadow_requests": 0, "too_little_traffic": "refuse", "patience": "15s"}
    with OneId(place) as callers, pytest.raises(DeploymentError) as caught:
        place.deploy(2, 2.02, **policy)
    assert "canary: too little traffic: 0 of 60 requests within 1" in str(caught.value)
    assert "requests come with few different ids, as many as 1, by which they are dealt out" in str(caught.value)
    assert "send other ids or none, or name a canary_header" in str(caught.value)
    assert set(callers.versions()) == {"1"}


class TroubledServing(LocalServing):
    """A target whose warm version of a bake does not come up, or dies, or does not go."""

    def start_candidate(self, model: str, version: ServedVersion) -> Endpoint:
        endpoint = super().start_candidate(model, version)
        if self._bakes(model) and "no start" in self.state:
            raise DeploymentError("no node has room for it")
        if self._bakes(model) and "dies" in self.state:
            pid = self.candidates.pid()
            assert pid
            os.kill(pid, signal.SIGKILL)
        return endpoint

    def retire_candidate(self, model: str) -> None:
        super().retire_candidate(model)
        if self._bakes(model) and "no end" in self.state:
            raise OSError("the API server does not answer")

    def _bakes(self, model: str) -> bool:
        served = self.current(model)
        return served is not None and served.version == "2"


@pytest.mark.long
@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("no start", "version 1 could not be kept up beside it (no node has room for it.)"),
        ("dies", "copies the version before failed"),
        ("no end", "version 1 is still up beside it (the API server does not answer), until the next roll-out"),
    ],
)
def test_what_befalls_the_version_before_undoes_no_promotion(tmp_path: Path, trouble: str, told: str) -> None:
    place = Place(tmp_path)
    state = str(tmp_path / trouble)
    place.serving.stop()
    place.serving = TroubledServing(state=state, port=free_port(), lake_uri=str(tmp_path / "lake"))
    place.deploy(1)
    try:
        with Callers(place) as callers:
            place.deploy(2, 2.02, replay_requests=0, shadow_requests=0, bake="8s")
        assert {code for code, _, _ in callers.answers} == {200}
        assert place.states[-1] == "baked"
        assert told in place.found("baked")
        assert place.found("baked").startswith("0 of "), "the new version was watched all the same"
        assert place.version == "2"
    finally:
        place.serving.stop()


class Troubled(FolderStore):
    """A lake that is away for a moment at each thing that is asked of it for the first time after a promotion."""

    place: Place

    def __init__(self, place: Place) -> None:
        super().__init__(place.folder / "lake")
        self.place, self.seen = place, set[str]()

    def _trouble(self, what: str) -> None:
        if "promoted" in self.place.states and what not in self.seen:
            self.seen.add(what)
            raise LakeError("503 Slow Down")

    def replace(self, key: str, content: bytes) -> None:
        self._trouble("replace")
        super().replace(key, content)

    def list(self, pattern: str) -> Any:
        self._trouble("list")
        return super().list(pattern)

    def read(self, key: str) -> bytes | None:
        self._trouble("read")
        return super().read(key)

    def delete(self, key: str) -> None:
        self._trouble("delete")
        super().delete(key)


@pytest.mark.long
def test_a_lake_that_is_away_for_a_moment_undoes_no_promotion(place: Place) -> None:
    place.store = store = Troubled(place)
    failed = list[str]()

    keep = place.record

    def record(step: Any) -> None:
        if step.state in ("promoted", "baked") and step.state not in failed:
            failed.append(step.state)
            raise LakeError("503 Slow Down")
        keep(step)

    place.record = record
    with Callers(place):
        place.deploy(2, 2.02, replay_requests=0, shadow_requests=0)
    assert place.states[-1] == "baked"
    assert store.seen == {"replace", "list", "read", "delete"}
    assert place.version == "2"


def test_who_loses_the_lock_while_it_bakes_says_so_at_once_and_leaves_the_version_of_before(place: Place) -> None:
    def late(step: Any) -> None:
        place.is_taken_over |= step.state == "promoted"

    place.record = late
    with Callers(place) as callers, pytest.raises(DeploymentError, match="rolled back: the lock was taken over"):
        place.deploy(2, 2.02, replay_requests=0, shadow_requests=0, bake="60s")
    assert {code for code, _, _ in callers.answers} == {200}
    assert place.version == "1"


@pytest.mark.long
def test_a_model_that_is_retired_while_it_bakes_is_gone_when_that_is_over(place: Place) -> None:
    retired = list[Any]()
    with Callers(place) as callers:
        thread = threading.Thread(target=lambda: retired.append(place.serving.retire(MODEL)))
        record = place.record

        def begun(step: Any) -> None:
            record(step)
            if step.state == "promoted":
                thread.start()

        place.record = begun
        place.deploy(2, 2.02, replay_requests=0, shadow_requests=0)
        thread.join(60)
        wait_until(lambda: callers.answers[-1][0] == 404)
    assert place.states[-1] == "baked", "whoever retires it waits for that"
    assert retired[0].version == "2"
    assert (place.version, place.traffic(), place.serving.served()) == (None, None, [])
    assert list(place.lake.store.stored(f"observed/{MODEL}")) == []


@pytest.mark.long
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_in_a_roll_out_neither_ends_it_nor_keeps_it(
    place: Place, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the process which rolls out; those of servers are tested where these are."""
    log_some_requests(place)
    real = time.time

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=hours)

    record = place.record

    def jump(step: Any) -> None:
        record(step)
        monkeypatch.setattr(time, "time", lambda: real() + 3_600 * hours)
        for module in (rollout, replay):
            monkeypatch.setattr(module, "datetime", Jumped)

    place.record = jump
    with Callers(place) as callers:
        place.deploy(2, 2.02, bake="3s")
    assert place.states == ["prepared", "ready", "golden", "replayed", "shadowed", "canary", "promoted", "baked"]
    assert {code for code, _, _ in callers.answers} == {200}
    assert place.traffic() is None


def test_without_requests_a_version_is_refused_where_the_policy_says_so(place: Place) -> None:
    with pytest.raises(DeploymentError, match=r"shadowed: too little traffic: 0 of 60 requests within \d+ s"):
        place.deploy(2, too_little_traffic="refuse", patience="6s")
    assert place.version == "1"


KILLED = """
import sys
from pathlib import Path
from mlops_assets.serving.log_policy import InferenceLogPolicy
from tests.integration.test_rollout import Place
place = Place.__new__(Place)
place.folder, place.steps, place.log = Path({folder!r}), [], InferenceLogPolicy()
from resources.lake.lake import Lake
from resources.serving.local_serving import LocalServing
place.lake = Lake(uri=str(place.folder / "lake"), cache=str(place.folder / "cache"))
place.store = place.lake.store
place.serving = LocalServing(state=str(place.folder / "serving"), port={port}, lake_uri=str(place.folder / "lake"))
place.deploy(2, 2.02, replay_requests=0, shadow_requests=0, canary_requests=10**9)
"""


def test_a_roll_out_that_is_killed_ends_by_itself_and_can_be_repeated(place: Place) -> None:
    program = KILLED.format(folder=str(place.folder), port=place.serving.port)
    with Callers(place) as callers:
        process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
        wait_until(lambda: callers.versions().get("2", 0) > 5, 60)
        process.kill()
        process.wait()
        wait_until(lambda: {version for _, version, _ in callers.answers[-100:]} == {"1"}, 60)
        assert place.traffic() is not None, "nobody has taken it away"
        place.deploy(2, 2.02, replay_requests=0, bake=None)
        wait_until(lambda: callers.answers[-1][1] == "2")
    assert {code for code, _, _ in callers.answers} == {200}
    assert place.traffic() is None


def test_who_has_lost_the_lock_makes_no_champion(place: Place) -> None:
    def late(step: Any) -> None:
        place.is_taken_over |= step.state == "golden"

    place.record = late
    with pytest.raises(DeploymentError, match="version 1 keeps answering: the lock was taken over"):
        place.deploy(2)
    assert place.version == "1"


def test_the_reason_is_told_also_where_it_cannot_be_written_down(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_traffic, "LAKE_AWAY_S", 0.0)
    monkeypatch.setattr(live_traffic, "PAUSE_S", 0.0)
    place.is_away = True
    with pytest.raises(LakeError, match="the lake is away"):  # before anything was begun
        place.deploy(2)
    fails_late = itertools.chain([False, False], itertools.repeat(True))
    real = Place.record

    def record(step: Any) -> None:
        place.is_away = next(fails_late)
        real(place, step)

    place.record = record
    with pytest.raises(DeploymentError, match="Version 2 of m was not rolled out, version 1 keeps answering"):
        place.deploy(2)
    assert place.version == "1"


@pytest.mark.parametrize("full", ["Declaration", "artifact"])
def test_a_full_disk_is_told_with_what_and_remedy_and_nothing_is_left_of_the_try(
    place: Place, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    def files() -> set[Path]:
        return {path for path in (place.folder / "serving/models").rglob("*") if path.name != "2"}

    before = files()
    monkeypatch.setattr(*(os, "fsync") if full == "Declaration" else (shutil, "copytree"), refused)
    with pytest.raises(DeploymentError, match="No space left on device at .*; make room or correct the access") as told:
        place.deploy(2)
    monkeypatch.undo()
    assert "what the model server is to serve cannot be written" in str(told.value)
    assert {path for path in files() - before if "draft" in path.name or path.name.startswith(".")} == set()
    assert place.version == "1"
    place.deploy(2)
    assert place.version == "2"


@pytest.mark.long
def test_a_log_that_keeps_a_share_does_not_say_that_nobody_asks(place: Place) -> None:
    place.log = InferenceLogPolicy(rate=0.0001)
    place.deploy(2)
    with Callers(place) as callers:
        place.deploy(3, 2.02, bake=None)
    assert "canary" in place.states
    assert {code for code, _, _ in callers.answers} == {200}


def v2(*values: float, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": list(values)}], **more}


V1_PATH, V2_PATH = f"/v1/models/{MODEL}:predict", f"/v2/models/{MODEL}/infer"
BINARY = json.dumps({"inputs": [{**v2(1.0)["inputs"][0], "parameters": {"binary_data_size": 4}}]})
BINARY = BINARY.replace(', "data": [1.0]', "")
REQUESTS: dict[str, tuple[str, bytes, dict[str, str], int]] = {
    "V1": (V1_PATH, b'{"instances": [{"x": 1}]}', {}, 200),
    "V1 of many rows": (V1_PATH, json.dumps({"instances": [{"x": x} for x in range(300)]}).encode(), {}, 200),
    "V2": (V2_PATH, json.dumps(v2(1, 2)).encode(), {}, 200),
    "V2 with an id": (V2_PATH, json.dumps(v2(1, id="mine")).encode(), {}, 200),
    "V2 of a version": (f"/v2/models/{MODEL}/versions/1/infer", json.dumps(v2(1)).encode(), {}, 200),
    "binary outputs": (V2_PATH, json.dumps(v2(1, parameters={"binary_data_output": True})).encode(), {}, 200),
    "binary inputs": (
        V2_PATH,
        BINARY.encode() + np.float32(1).tobytes(),
        {"inference-header-content-length": str(len(BINARY))},
        200,
    ),
    "gzip": (V1_PATH, gzip.compress(b'{"instances": [{"x": 1}]}'), {"content-encoding": "gzip"}, 200),
    "large": (V1_PATH, json.dumps({"instances": [{"x": 1.25}] * 9_000}).encode(), {}, 200),
    "an id with a line's end": (V1_PATH, b'{"id": "a\\nb", "instances": [{"x": 1}]}', {}, 400),
    "an id that is a number": (V1_PATH, b'{"id": 3, "instances": [{"x": 1}]}', {}, 400),
    "another column": (V1_PATH, b'{"instances": [{"y": 1}]}', {}, 400),
    "no JSON": (V1_PATH, b"{", {}, 400),
    "nothing": (V1_PATH, b"", {}, 400),
    "a version that is not served": (f"/v2/models/{MODEL}/versions/7/infer", json.dumps(v2(1)).encode(), {}, 404),
}


@pytest.mark.long
def test_whatever_is_asked_gets_the_status_it_has_without_a_candidate(place: Place) -> None:
    def status(name: str) -> int:
        path, body, headers, _ = REQUESTS[name]
        request = urllib.request.Request(f"{place.serving.server.url}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                response.read()
                return response.status
        except urllib.error.HTTPError as error:
            return error.code

    wanted = {name: code for name, (*_, code) in REQUESTS.items()}
    assert {name: status(name) for name in REQUESTS} == wanted
    policy = {"replay_requests": 0, "shadow_requests": 0, "canary_requests": 10**6, "canary_percent": 50}
    ended = list[BaseException]()

    def deploy() -> None:
        try:
            place.deploy(2, 2.02, **policy, patience="20s", too_little_traffic="refuse")
        except DeploymentError as error:
            ended.append(error)

    thread = threading.Thread(target=deploy)
    thread.start()
    wait_until(lambda: list(place.lake.store.stored(f"observed/{MODEL}")))
    for _ in range(10):
        assert {name: status(name) for name in REQUESTS} == wanted
    thread.join()
    assert "too little traffic" in str(ended[0]), "and none of it is held against the candidate"
