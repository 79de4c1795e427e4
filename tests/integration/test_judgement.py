"""Judgement that cannot be fooled: partial runs, re-executions, backfills, kills and runs that come between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.judgement import ModelLife

if TYPE_CHECKING:
    from tests.support import Platform

SHORT = settings(
    max_examples=4,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # an example takes seconds, and the steps are in the message
)


def test_whatever_happens_to_a_model_its_judgement_holds(platform: Platform) -> None:
    run_state_machine_as_test(lambda: ModelLife(platform), settings=SHORT)
