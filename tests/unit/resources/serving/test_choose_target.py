"""Where an environment serves its models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources.environment import Environment
from resources.serving.choose_target import serving_target
from resources.serving.kserve_serving import KServe
from resources.serving.local_serving import LocalServing
from resources.serving.seldon_serving import Seldon

if TYPE_CHECKING:
    from pathlib import Path


def test_one_machine_serves_by_itself_and_a_cluster_by_kserve_or_seldon(tmp_path: Path) -> None:
    here = Environment.read({"MLOPS_HOME": str(tmp_path), "SERVING_PORT": "8123"})
    local = serving_target(here, here.lake())
    assert isinstance(local, LocalServing)
    assert (local.state, local.port) == (str(tmp_path / "serving"), 8123)
    images = {"MLOPS_PREDICTOR_IMAGE": "predictor:1", "MLOPS_TRAINER_IMAGE": "trainer:1"}
    needed = {"LAKE_URI": "s3://b", "MLFLOW_TRACKING_URI": "http://mlflow", **images}
    there = Environment.read({"MLOPS_ENV": "production", "MLOPS_PREFIX": "team-b-", **needed})
    target = serving_target(there, there.lake())
    assert isinstance(target, KServe)
    assert not isinstance(target, Seldon)
    assert (target.image, target.lake.uri, target.prefix) == ("predictor:1", "s3://b", "team-b-")
    there = Environment.read({"MLOPS_ENV": "production", "SERVING_OPERATOR": "seldon", **needed})
    target = serving_target(there, there.lake())
    assert isinstance(target, Seldon)
    assert (target.image, target.lake.uri) == ("predictor:1", "s3://b")
