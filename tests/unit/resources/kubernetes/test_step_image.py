"""The image of a step's pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources.kubernetes.compute import PodPolicy
from resources.kubernetes.step_image import image_config

if TYPE_CHECKING:
    import pytest


def test_the_trainers_image_is_the_one_that_the_code_location_named(monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"MLOPS_TRAINER_IMAGE": "trainer:7", "MLOPS_PREDICTOR_IMAGE": "predictor:7"}
    addresses = {"LAKE_URI": "s3://any", "MLFLOW_TRACKING_URI": "http://any"}
    for name, value in ({"MLOPS_ENV": "production"} | images | addresses).items():
        monkeypatch.setenv(name, value)
    assert image_config(PodPolicy(image="trainer")) == {"container_config": {"image": "trainer:7"}}


def test_the_platforms_image_is_left_to_dagster() -> None:
    assert image_config(PodPolicy()) == {}
