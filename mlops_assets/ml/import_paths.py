"""Classes and functions by import path: checked without importing, imported where they are used."""

from __future__ import annotations

import importlib
import re
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from mlops_assets.ml.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.machinery import ModuleSpec


def check_import_path(value: object) -> object:
    """Check that the module of a dotted path exists, without importing it.

    Raises:
        PydanticCustomError: it does not, or this is no path.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        raise PydanticCustomError("import_path", "an import path is package.module.ClassName")
    module = value.rpartition(".")[0]
    if find_module(module) is None:
        message = "there is no module {module}; install its package or correct the path"
        raise PydanticCustomError("import_path", message, {"module": module})
    return value


ImportPath = Annotated[str, BeforeValidator(check_import_path, json_schema_input_type=str)]


def find_module(module: str) -> ModuleSpec | None:
    """Where a module lies, without importing it or its parents as importlib.util.find_spec would; None: nowhere."""
    locations, found = None, None
    names = module.split(".")
    for count in range(1, len(names) + 1):
        found = PathFinder.find_spec(".".join(names[:count]), locations)
        if found is None:
            return None
        # Of a namespace package only its path is known as long as it is not imported
        locations = getattr(found.submodule_search_locations, "_path", found.submodule_search_locations) or []
    return found


def import_class(path: str) -> type[Any]:
    """The class at an import path.

    Raises:
        TrainingError: there is no such class.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        what = f"{path} cannot be imported ({error})"
        remedy = "correct the path"
        if is_without_torch(error):
            remedy = "import torch in the file of this class, too: by that a training gets the image that has it"
        raise TrainingError(what, where="train.network", remedy=remedy) from error
    if not isinstance(found, type):
        remedy = "name a torch.nn.Module or a scikit-learn estimator"
        raise TrainingError(f"{path} is no class", where="train.network", remedy=remedy)
    return found


def is_without_torch(error: Exception) -> bool:
    """Whether an import failed because torch is not installed, as in the image of all that trains no network."""
    return isinstance(error, ModuleNotFoundError) and error.name == "torch"


def construct(kind: type[Any], params: Mapping[str, Any], **given: Any) -> Any:
    """An object of the class from the YAML's params.

    Raises:
        TrainingError: the class does not take these params.
    """
    try:
        return kind(**given, **params)
    except (TypeError, ValueError) as error:
        what = f"they do not fit {kind.__name__}: {error}"
        raise TrainingError(what, where="train.params", remedy="correct them") from error
