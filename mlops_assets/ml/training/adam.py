"""Adam (Kingma and Ba, 2015) by torch's own fused kernel, without the bookkeeping of torch.optim around it.

For a small network that bookkeeping takes a quarter of a training step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.optim.adam import adam

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """The optimiser's state: for each parameter the mean and the mean square of its gradient, and its steps."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], weight_decay: float) -> None:
        self.parameters, self.weight_decay = list(parameters), weight_decay
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def step(self, learning_rate: float) -> None:
        """Move the parameters that have a gradient, and drop the gradients."""
        moved = zip(self.parameters, self.means, self.squares, self.steps, strict=True)
        parameters, gradients, means, squares, steps = [], [], [], [], []
        for parameter, mean, square, count in moved:
            if parameter.grad is not None:
                parameters.append(parameter)
                gradients.append(parameter.grad)
                means.append(mean)
                squares.append(square)
                steps.append(count)
        with torch.no_grad():
            adam(
                parameters,
                gradients,
                means,
                squares,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=learning_rate,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                maximize=False,
            )
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for a checkpoint."""
        return {
            f"{kind}.{index}": tensor
            for kind, tensors in (("means", self.means), ("squares", self.squares), ("steps", self.steps))
            for index, tensor in enumerate(tensors)
        }

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over the state of a checkpoint."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
