"""Where an environment serves its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import SpecError
from resources.environment import Environment
from resources.serving.choose_target import check_service, serving_target
from resources.serving.kserve_serving import KServe
from resources.serving.local_serving import LocalServing
from resources.serving.seldon_serving import Seldon
from resources.serving.service_settings import ServiceSettings

if TYPE_CHECKING:
    from pathlib import Path


def production(**variables: str) -> Environment:
    """The environment of a cluster."""
    images = {"MLOPS_PREDICTOR_IMAGE": "predictor:1", "MLOPS_TRAINER_IMAGE": "trainer:1"}
    shared = {"LAKE_URI": "s3://b", "MLFLOW_TRACKING_URI": "http://mlflow", **images}
    return Environment.read({"MLOPS_ENV": "production", **shared, **variables})


def test_one_machine_serves_by_itself_and_a_cluster_by_kserve_or_seldon(tmp_path: Path) -> None:
    here = Environment.read({"MLOPS_HOME": str(tmp_path), "SERVING_PORT": "8123"})
    local = serving_target(here, here.lake())
    assert isinstance(local, LocalServing)
    assert (local.state, local.port) == (str(tmp_path / "serving"), 8123)
    there = production(MLOPS_PREFIX="team-b-")
    target = serving_target(there, there.lake())
    assert isinstance(target, KServe)
    assert not isinstance(target, Seldon)
    assert (target.image, target.lake.uri, target.prefix) == ("predictor:1", "s3://b", "team-b-")
    there = production(SERVING_OPERATOR="seldon")
    target = serving_target(there, there.lake())
    assert isinstance(target, Seldon)
    assert (target.image, target.lake.uri) == ("predictor:1", "s3://b")


EXPOSE = {"host": "iris.example.com", "auth": "none"}
ALL_SET_UP = {
    "MLOPS_FEATURES_DATABASE": "postgresql://u:p@h/features",
    "MLOPS_PROMETHEUS_URL": "http://prometheus:9090",
    "MLOPS_GATEWAY": "gateways/public/https",
}


@pytest.mark.parametrize(
    ("settings", "variables", "field", "remedy"),
    [
        ({"looked_up": ["temp"]}, {}, "features.from_store", "set MLOPS_FEATURES_DATABASE"),
        ({"scale": {"metric": "concurrency"}}, {}, "deploy.scale.metric", "set MLOPS_PROMETHEUS_URL"),
        ({"expose": EXPOSE}, {}, "deploy.expose", "set MLOPS_GATEWAY"),
        ({"expose": EXPOSE}, {"SERVING_OPERATOR": "seldon"}, "deploy.expose", "serve models by KServe"),
        ({"scale": {"metric": "concurrency"}}, {"SERVING_OPERATOR": "seldon"}, "deploy.scale.metric", "by KServe"),
    ],
    ids=[
        *("views without a database", "concurrency without Prometheus", "exposed without a gateway"),
        *("exposed on Seldon", "concurrency on Seldon"),
    ],
)
def test_what_a_cluster_is_not_set_up_for_is_refused_before_anything_runs(
    tmp_path: Path, settings: dict[str, Any], variables: dict[str, str], field: str, remedy: str
) -> None:
    service = ServiceSettings.model_validate(settings)
    with pytest.raises(SpecError, match=remedy) as refused:
        check_service(service, production(**variables), "defs.yaml")
    assert refused.value.where == f"defs.yaml: {field}"
    check_service(service, Environment.read({"MLOPS_HOME": str(tmp_path)}), "defs.yaml")
    if not variables:
        check_service(service, production(**ALL_SET_UP), "defs.yaml")
