"""Labels of a log's requests, and the requests that have some asked again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.serving.log_files import Label, labels_file
from resources.serving.labelled_requests import labelled_rows, newest_labels
from tests.unit.resources.serving.test_replay import ENDPOINT, World

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def told(world: World, name: str, *labels: tuple[str, int, str, int]) -> None:
    """Labels of `m` are stored: request, row, label, and when it became known."""
    content = labels_file([Label("m", i, row, text, NOW + timedelta(seconds=at), NOW) for i, row, text, at in labels])
    world.store.replace(f"labels/m/2026/11/29/{name}.parquet", content)


def test_of_two_labels_of_a_row_the_one_that_became_known_later_counts(world: World) -> None:
    told(world, "one", ("a", 0, "1.0", 5), ("b", 1, "2.0", 0))
    told(world, "two", ("a", 0, "9.0", 1), ("b", 1, "3.0", 1))
    assert newest_labels(world.store, "m") == {"a": {0: "1.0"}, "b": {1: "3.0"}}
    assert newest_labels(world.store, "other") == {}
    assert newest_labels(world.store, "m", days=-1) == {}, "all of them were stored before"


def test_requests_with_labels_are_asked_again_and_others_are_not(world: World) -> None:
    model = world.asked("1", ("a", [1]), ("b", [2, 3]), ("c", [4]), ("d", [5]))
    told(world, "one", ("a", 0, "1.5", 0), ("b", 1, "9.0", 0), ("c", 0, "1.0", 0), ("gone", 0, "1.0", 0))

    def post(_: str, body: dict[str, Any], __: dict[str, str]) -> dict[str, Any]:
        if body["id"] == "c":
            raise DeploymentError("no")
        assert body["id"] != "d"
        [tensor] = body["inputs"]
        data = [3 * value for value in tensor["data"]]
        return {"outputs": [{"name": "prediction", "shape": tensor["shape"], "data": data}]}

    found = labelled_rows(world.store, "m", "1", 10, ENDPOINT, model.signature, post)
    assert sorted(found) == [("a", "1.5", (None, 2.0), (None, 3.0)), ("b", "9.0", (None, 6.0), (None, 9.0))]


def test_of_requests_with_the_same_id_a_label_is_about_none(world: World) -> None:
    model = world.asked("1", ("same", [1]), ("same", [2]), ("own", [3]))
    told(world, "one", ("same", 0, "1.5", 0), ("own", 0, "9.0", 0))

    def post(_: str, body: dict[str, Any], __: dict[str, str]) -> dict[str, Any]:
        [tensor] = body["inputs"]
        return {"outputs": [{"name": "prediction", "shape": tensor["shape"], "data": tensor["data"]}]}

    found = labelled_rows(world.store, "m", "1", 10, ENDPOINT, model.signature, post)
    assert [row.request_id for row in found] == ["own"]
