"""What a step asks of Kubernetes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from resources.kubernetes.compute import Compute, PodPolicy, TrainingCompute


@pytest.mark.parametrize("memory", ["512Mi", "16Gi", "1Ti"])
def test_memory_is_a_number_of_binary_units(memory: str) -> None:
    assert Compute(memory=memory).memory == memory


@pytest.mark.parametrize("memory", ["16GB", "16", "0Gi", "1.5Gi", "Gi", ""])
def test_any_other_quantity_is_refused(memory: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Compute(memory=memory)


def test_a_training_asks_for_all_that_a_step_asks_for() -> None:
    defaults = TrainingCompute().model_dump()
    assert {name: defaults[name] for name in Compute.model_fields} == Compute().model_dump()


def test_a_step_without_a_word_on_it_gets_the_policy_of_the_yamls_defaults() -> None:
    policy, compute = PodPolicy(), Compute()
    assert (policy.start_within, policy.retries) == (compute.start_within, compute.retries)


def test_a_policy_is_the_same_after_its_way_through_a_tag() -> None:
    policy = PodPolicy(start_within=timedelta(seconds=90), needs="a gpu node (1 GPU)")
    assert PodPolicy.model_validate(policy.model_dump(mode="json")) == policy
