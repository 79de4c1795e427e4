"""Production and two people on one lake in S3 and one MLflow server: they share what is computed, and do not meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from resources.lake.lake import Lake
from resources.lake.retention import survey
from resources.tracking.mlflow_tracking import Tracking
from tests.support import Platform, failure, messages, weather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BETTER = {"train__params": {"C": 0.01}, "gate__beats_champion_by": -1.0}


@pytest.fixture
def machine(tmp_path: Path, mlflow_uri: str, s3_endpoint: str) -> Iterator[Callable[[str], Platform]]:
    """Gives the platform of a machine in a space; all have one lake and one model."""
    bucket = tmp_path.name.replace("_", "-")
    boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    made: list[Platform] = []

    def make(space: str) -> Platform:
        home = tmp_path / (space or "production")
        home.mkdir()
        shared: dict[str, Any] = {"lake_uri": f"s3://{bucket}/lake", "endpoint_url": s3_endpoint}
        if made:
            shared["model"] = made[0].model
        made.append(Platform(home, mlflow_uri, space=space, **shared))
        return made[-1]

    yield make
    for platform in made:
        platform.serving.stop()


@pytest.fixture
def production(machine: Callable[[str], Platform]) -> Platform:
    """Production, where version 1 is champion."""
    platform = machine("")
    platform.put(weather())
    result = platform.run()
    assert result.success, messages(result)
    return platform


def objects(platform: Platform, *, own: bool = False) -> dict[str, bytes | None]:
    """All objects of the lake, or those alone that are neither of a person nor of a snapshot."""
    store = platform.lake.store
    versions = survey(store)[platform.model].versions
    snapshots = {item.key for parts in versions.values() for item in parts.values()}
    keys = [item.key for item in store.stored()]
    if own:
        keys = [key for key in keys if key not in snapshots and not key.startswith("spaces/")]
    return {key: store.read(key) for key in keys}


def snapshots(platform: Platform) -> set[str]:
    """Every object of every snapshot; one that is made again lies in another folder."""
    versions = survey(platform.lake.store)[platform.model].versions
    return {item.key for parts in versions.values() for item in parts.values()}


def in_mlflow(platform: Platform) -> dict[str, int]:
    """The versions of the model by its names."""
    client = platform.tracking.client
    found = client.search_registered_models(f"name LIKE '%{platform.model}'")
    return {one.name: len(client.search_model_versions(f"name = '{one.name}'")) for one in found}


def test_people_share_snapshots_and_nothing_else(machine: Callable[[str], Platform], production: Platform) -> None:
    model, before, computed = production.model, objects(production, own=True), snapshots(production)

    ann, ben = machine("ann"), machine("ben")
    for person in (ann, ben):
        result = person.run()
        assert result.success, messages(result)
        evaluation = result.asset_value([model, "evaluation"])
        assert evaluation.comparison.reason == f"there is no champion yet in the space {person.space}"
    assert snapshots(production) == computed, "nothing is computed twice"

    result = ann.run(ann.spec(**BETTER))
    assert result.success, messages(result)
    assert (ann.champion(), ben.champion(), production.champion()) == (2, 1, 1)
    assert (ann.served(), ben.served(), production.served()) == ("2", "1", "1")
    assert in_mlflow(production) == {model: 1, f"ann--{model}": 2, f"ben--{model}": 1}
    assert [len(person.mlflow_runs()) for person in (ann, ben, production)] == [2, 1, 1]
    moves = {
        person.space: [entry["number"] for entry in person.lake.entries(f"{model}/ledger")] for person in (ann, ben)
    }
    assert moves == {"ann": [1, 2, 3, 4], "ben": [1, 2]}
    url = result.asset_materializations_for_node(f"{model}__deployment")[0].metadata["endpoint"].value
    assert url == f"{ann.serving.server.url}/v2/models/ann--{model}"
    assert objects(production, own=True) == before, "nothing of production has changed"

    # What ann has computed is there when production wants it
    computed = snapshots(production)
    result = production.run(production.spec(**BETTER))
    assert result.success, messages(result)
    assert snapshots(production) == computed
    assert (production.champion(), ann.champion(), ben.champion()) == (2, 2, 1)
    # A stage alone takes the handles of its own space
    result = ben.materialize("deployment")
    assert result.success, messages(result)
    assert ben.served() == "1"


@pytest.mark.parametrize(
    "stages",
    [(), *(pytest.param((stage,), marks=pytest.mark.long) for stage in ("features", "evaluation", "deployment"))],
)
def test_nobody_but_production_moves_what_is_productions(
    machine: Callable[[str], Platform], production: Platform, stages: tuple[str, ...]
) -> None:
    laptop = machine("ann")
    fields = ("uri", "cache", "endpoint_url")
    laptop.lake = Lake(**laptop.lake.model_dump(include=set(fields)), owns_space=False)
    laptop.tracking = Tracking(uri=laptop.tracking.uri, lake=laptop.lake)
    before = objects(production)

    model = laptop.spec(**BETTER)
    result = laptop.materialize(*stages, model=model) if stages else laptop.run(model)

    told = failure(result)
    assert "This environment is not production, and may not change what is production's in s3://" in told
    assert "unset MLOPS_SPACE, which gives you a space of your own" in told
    assert objects(production) == before
    assert (production.champion(), production.served()) == (1, "1")
    assert laptop.champion() == 1, "looking at it is allowed"
    assert in_mlflow(production) == {production.model: 1}
    assert len(production.mlflow_runs()) == 1
    assert laptop.serving.served() == []
