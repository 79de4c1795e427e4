"""The network that ships. It imports torch, so nothing imports it but what trains: it is named by import path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class MLP(nn.Module):
    """Fully connected layers with ReLU between them.

    Maps float32 (n, inputs) to (n, outputs): logits for classification, the standardised value for regression.
    """

    def __init__(self, inputs: int, outputs: int, hidden: Sequence[int] = (64, 32), dropout: float = 0.0) -> None:
        super().__init__()
        layers = list[nn.Module]()
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)
