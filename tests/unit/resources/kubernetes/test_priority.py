"""Pods of an environment that shares its cluster have its own priority classes."""

from __future__ import annotations

from typing import Any

import pytest

from resources.kubernetes.pod_executor import STEP_POD
from resources.kubernetes.priority import with_prefix


def test_a_pod_gets_the_class_of_its_environment_and_keeps_the_rest() -> None:
    made = with_prefix(STEP_POD, "team-b-")
    assert made["pod_spec_config"] == {"priority_class_name": "team-b-mlops-training"}
    assert {key: value for key, value in made.items() if key != "pod_spec_config"} == {
        key: value for key, value in STEP_POD.items() if key != "pod_spec_config"
    }
    assert STEP_POD["pod_spec_config"] == {"priority_class_name": "mlops-training"}, "it is another object"


@pytest.mark.parametrize("config", [{}, {"pod_spec_config": {"tolerations": []}}, STEP_POD])
def test_without_a_prefix_or_a_class_nothing_changes(config: dict[str, Any]) -> None:
    assert with_prefix(config, "") == config
