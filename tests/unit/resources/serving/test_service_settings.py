"""How many pods a model has, by what its YAML and the environment say."""

from __future__ import annotations

import pytest

from resources.serving.service_settings import Scale, ServiceSettings


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(None, None, (2, 6)), (4, None, (4, 12)), (None, 5, (2, 5)), (None, 1, (1, 1)), (3, 3, (3, 3))],
)
def test_what_the_yaml_does_not_say_follows_the_environment(
    least: int | None, most: int | None, expected: tuple[int, int]
) -> None:
    assert Scale(min_replicas=least, max_replicas=most).replicas(2) == expected


def test_each_metric_has_a_target_of_its_own() -> None:
    assert [Scale(metric=metric).threshold for metric in ("cpu", "memory", "concurrency")] == [80, 80, 4]
    assert Scale(metric="concurrency", target=300).threshold == 300


def test_they_come_back_from_what_an_object_says_of_them() -> None:
    settings = ServiceSettings.model_validate({"scale": {"min_replicas": 3}, "resources": {"memory": "2Gi"}})
    assert ServiceSettings.model_validate_json(settings.model_dump_json(exclude_defaults=True)) == settings
