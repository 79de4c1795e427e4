"""The network that ships, and how any network or estimator is found by its import path."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch


def __getattr__(name: str) -> Any:
    """Make `MLP` when it is asked for: importing torch takes seconds, and checking a YAML must not."""
    if name == "MLP":
        mlp = _mlp_class()
        globals()["MLP"] = mlp
        return mlp
    raise AttributeError(name)


def _mlp_class() -> type[torch.nn.Module]:
    from torch import nn

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

    MLP.__qualname__ = "MLP"
    return MLP


def find(path: str) -> type[Any]:
    """The class at an import path.

    Raises:
        TrainingError: there is no such class.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TrainingError(f"train.network: {path} cannot be imported ({error}); correct the path.") from error
    if not isinstance(found, type):
        raise TrainingError(f"train.network: {path} is no class; name a torch.nn.Module or a scikit-learn estimator.")
    return found


def is_torch(kind: type[Any]) -> bool:
    """Whether the class is a torch.nn.Module, without importing torch."""
    return any(base.__module__.startswith("torch.nn.") and base.__name__ == "Module" for base in kind.__mro__)


def construct(kind: type[Any], params: Mapping[str, Any], **given: Any) -> Any:
    """An object of the class from the YAML's params.

    Raises:
        TrainingError: the class does not take these params.
    """
    try:
        return kind(**given, **params)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"train.params do not fit {kind.__name__}: {error}; correct them.") from error
