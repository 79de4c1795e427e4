"""Random numbers by the seed alone, and a process that is left as it was."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from mlops_assets.ml.training.reproducible import random_state, reproducible, restore_random_state


def draws() -> list[float]:
    return [float(torch.randn(1)), float(np.random.normal()), random.gauss(0, 1), random.random()]


def test_all_generators_begin_with_the_seed() -> None:
    found = list[list[float]]()
    for seed in (1, 1, 2**40, 2**40, 3):
        with reproducible(seed):
            found.append(draws())
    assert found[0] == found[1] != found[4]
    assert found[2] == found[3]


def test_generators_go_on_from_a_state_that_was_stored() -> None:
    draws()
    tensors, others = random_state()
    wanted = draws()
    restore_random_state(tensors, json.loads(json.dumps(others)))
    assert draws() == wanted


def test_an_error_leaves_the_process_as_it_was_too() -> None:
    random.seed(3)
    before = random.getstate()
    with pytest.raises(ValueError, match="lost"), reproducible(5):
        draws()
        torch.set_default_dtype(torch.float64)
        raise ValueError("lost")
    assert random.getstate() == before
    assert torch.get_default_dtype() == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()
