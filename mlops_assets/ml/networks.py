"""The network that ships, and how any network or estimator is found by its import path."""

from __future__ import annotations

import hashlib
import importlib
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec

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


def locate(module: str) -> ModuleSpec | None:
    """Where a module lies, without importing it or its parents as importlib.util.find_spec would; None: nowhere."""
    places, found = None, None
    names = module.split(".")
    for count in range(1, len(names) + 1):
        found = PathFinder.find_spec(".".join(names[:count]), places)
        if found is None:
            return None
        # Of a namespace package only its path is known as long as it is not imported
        places = getattr(found.submodule_search_locations, "_path", found.submodule_search_locations) or []
    return found


def source_digest(path: str) -> str:
    """The digest of the file that holds the class at an import path; it changes when the class is edited."""
    found = locate(path.rpartition(".")[0])
    if found is None or found.origin is None:
        return ""
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


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
