"""Adam: the same numbers as torch.optim.Adam, and the same again from a checkpoint."""

from __future__ import annotations

import pytest
import torch

from mlops_assets.ml.training.adam import Adam


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


def backward(model: torch.nn.Module, seed: int) -> None:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed))
    model(x).square().mean().backward()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_steps_as_torch_optim_does(weight_decay: float) -> None:
    ours, theirs = network(), network()
    adam = Adam(ours.parameters(), weight_decay)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, weight_decay=weight_decay, fused=True)
    for seed in range(5):
        backward(ours, seed)
        adam.step(0.01)
        backward(theirs, seed)
        reference.step()
        reference.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
        assert mine.grad is None


def test_it_goes_on_from_its_tensors() -> None:
    whole, parted = network(), network()
    first, before = Adam(whole.parameters(), 0.0), Adam(parted.parameters(), 0.0)
    for seed in range(2):
        for model, adam in ((whole, first), (parted, before)):
            backward(model, seed)
            adam.step(0.01)
    after = Adam(parted.parameters(), 0.0)
    after.load({name: tensor.clone() for name, tensor in before.tensors().items()})
    for model, adam in ((whole, first), (parted, after)):
        backward(model, 2)
        adam.step(0.01)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parted.parameters(), strict=True))


def test_a_parameter_without_a_gradient_stays() -> None:
    model = network()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    adam = Adam(model.parameters(), 0.1)
    backward(model, 0)
    adam.step(0.01)
    assert torch.equal(model[0].weight, frozen)
