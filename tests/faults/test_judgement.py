"""Many lives of a model, each with more that happens to it than in the short test of every day."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.judgement import ModelLife

if TYPE_CHECKING:
    from tests.support import Platform

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]

LONG = settings(
    max_examples=int(os.environ.get("MLOPS_LIVES", "8")),
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


def test_whatever_happens_to_many_models_their_judgement_holds(platform: Platform) -> None:
    run_state_machine_as_test(lambda: ModelLife(platform), settings=LONG)
