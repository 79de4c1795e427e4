"""Requests that were logged, asked again."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.inference_log import InferenceLog
from mlops_assets.serving.lake_files import LakeFolder
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.predictor import Predictor
from resources.lake.folder_store import FolderStore
from resources.serving.golden_rows import PROOF_ID, Endpoint
from resources.serving.replay import logged_requests, not_replayable, replay, replayable
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT = Endpoint(url="http://there", model="m")


class World:
    """A lake in which servers of `m` have logged requests."""

    def __init__(self, folder: Path) -> None:
        self.store = FolderStore(folder / "lake")
        self.folder = folder

    def asked(self, version: str, *requests: tuple[str, list[float]], candidate: bool = False) -> Predictor:
        """A server of a version answers these, and has stored so."""
        artifact = self.folder / version
        signature = write_artifact(artifact) if not artifact.exists() else None
        sha256 = signature.sha256 if signature else self.sha256
        self.sha256 = sha256
        served = ServedVersion(folder=version, sha256=sha256, version=version, log=InferenceLogPolicy())
        log = InferenceLog(LakeFolder(self.folder / "lake"), b"")
        model = Predictor("m", served, artifact, record=log.record, is_candidate=candidate)
        for request_id, values in requests:
            inputs = {"x": np.array(values, np.float32).reshape(-1, 1)}
            model.answer(request_id, inputs, time.perf_counter(), 10, b"mirror" if candidate else None)
        log.close()
        return model


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_newest_requests_of_a_version_come_first(world: World) -> None:
    world.asked("1", ("a", [1]), ("b", [2, 3]), (PROOF_ID, [1]))
    world.asked("2", ("c", [4]))
    world.asked("1", ("b", [9]), candidate=True)
    found = logged_requests(world.store, "m", "1", 10)
    assert [(request.request_id, request.rows) for request in found.requests] == [
        ("b", [{"x": 2.0}, {"x": 3.0}]),
        ("a", [{"x": 1.0}]),
    ]
    assert found.requests[0].answers == [(None, 4.0), (None, 6.0)]
    assert found.last is not None
    assert abs((datetime.now(UTC) - found.last).total_seconds()) < 60
    assert len(logged_requests(world.store, "m", "1", 1).requests) == 1
    assert logged_requests(world.store, "other", "1", 10) == ([], None)


def test_a_model_has_not_the_log_of_one_whose_name_begins_with_its_own(world: World) -> None:
    world.asked("1", ("a", [1]))
    assert logged_requests(world.store, "m_2", "1", 10).last is None


def test_the_same_answers_are_no_distance_and_others_are(world: World) -> None:
    model = world.asked("1", ("a", [1]), ("b", [2, 3]))
    requests = logged_requests(world.store, "m", "1", 10).requests

    def post(_: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        assert headers == {"x-mlops-role": "replay"}
        [tensor] = body["inputs"]
        data = [2 * value + (body["id"] == "b") for value in tensor["data"]]
        return {"outputs": [{"name": "prediction", "shape": tensor["shape"], "data": data}]}

    seen = replay(requests, ENDPOINT, model.signature, post)
    assert (seen.mirrored, seen.mirrored_failed, seen.rows) == (2, 0, 3)
    assert set(seen.pairs) == {(2.0, 2.0), (4.0, 5.0), (6.0, 7.0)}


def test_what_a_version_gives_no_number_for_is_its_fault_where_the_log_has_one(world: World) -> None:
    model = world.asked("1", ("a", [1]), ("b", [3e38]), ("c", [2]), ("d", [3]))
    answers = {"a": [2.0], "b": [None], "c": [None], "d": [6.0, 6.0]}

    def post(_: str, body: dict[str, Any], __: Any) -> dict[str, Any]:
        data = answers[body["id"]]
        return {"outputs": [{"name": "prediction", "shape": [len(data), 1], "data": data}]}

    seen = replay(logged_requests(world.store, "m", "1", 10).requests, ENDPOINT, model.signature, post)
    assert (seen.mirrored, seen.mirrored_failed, seen.pairs) == (4, 2, ((2.0, 2.0),))
    assert seen.reasons == {
        "an answer is no number, where the champion's is one": 1,
        "2 rows are answered, and 1 were asked.": 1,
    }


def test_a_version_that_refuses_everything_is_not_asked_ten_thousand_times(world: World) -> None:
    model = world.asked("1", *((f"r{index}", [1.0]) for index in range(50)))
    asked = list[str]()

    def post(url: str, _: Any, __: Any) -> dict[str, Any]:
        asked.append(url)
        raise DeploymentError("column y is missing")

    seen = replay(logged_requests(world.store, "m", "1", 50).requests, ENDPOINT, model.signature, post)
    assert (seen.mirrored, seen.mirrored_failed, len(asked)) == (3, 3, 3)
    assert seen.reasons == {"column y is missing.": 3}


def test_what_the_log_does_not_keep_cannot_be_asked_again(world: World) -> None:
    model = world.asked("1", ("a", [1]))
    requests = logged_requests(world.store, "m", "1", 10).requests
    columns = model.signature.inputs
    assert not_replayable(requests, columns, ()) is None
    assert not_replayable(requests, columns, ("x",)) == "the inference log does not keep x"
    more = (*columns, columns[0].model_copy(update={"name": "y"}))
    assert not_replayable(requests, more, ()) == "the inference log does not keep y"


def test_of_several_servers_the_newest_requests_count_and_not_one_servers(world: World) -> None:
    asked = [f"r{number}" for number in range(6)]
    for request_id in asked:  # each by a server of its own, whose name is any
        world.asked("1", (request_id, [1.0]))
    found = logged_requests(world.store, "m", "1", 3).requests
    assert [request.request_id for request in found] == asked[:2:-1]


def test_requests_of_before_a_column_was_left_out_or_kept_as_digests_are_passed_over(world: World) -> None:
    model = world.asked("1", ("a", [1]))
    [whole] = logged_requests(world.store, "m", "1", 10).requests
    without = whole._replace(rows=[{}])
    assert replayable([whole, without, whole], model.signature.inputs) == [whole, whole]


def test_requests_with_one_id_are_requests_of_their_own(world: World) -> None:
    world.asked("1", ("same", [1]), ("same", [2, 3]), ("same", [4]))
    found = logged_requests(world.store, "m", "1", 10).requests
    assert [[row["x"] for row in request.rows] for request in found] == [[4.0], [2.0, 3.0], [1.0]]


@pytest.mark.parametrize("hours", [-1, 1])
def test_servers_whose_clock_is_an_hour_off_have_logged_requests_too(
    world: World, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with monkeypatch.context() as jumped:
        jumped.setattr(time, "time", lambda: real() + 3_600 * hours)
        world.asked("1", ("a", [1]))
    found = logged_requests(world.store, "m", "1", 10)
    assert [request.request_id for request in found.requests] == ["a"]
