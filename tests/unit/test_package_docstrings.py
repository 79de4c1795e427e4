"""The ways of a row, a parameter and a request, as the package docstrings tell them, lead through code that exists."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

PACKAGES = ("mlops_assets.ml", "mlops_assets.spec", "mlops_assets.serving")


def names_in(package: str) -> list[str]:
    """Dotted names in backticks, relative ones made absolute."""
    found = re.findall(r"`([A-Za-z_][\w.]*\.\w+)`", importlib.import_module(package).__doc__ or "")
    # What is lower case and names no package of ours is a field of the YAML
    names = [name if name.startswith("mlops_assets.") else f"{package}.{name}" for name in found]
    return [name for name in names if not name.startswith(f"{package}.train.")]


def resolve(name: str) -> Any:
    """The module, class or function of this name."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_names_the_functions_on_its_way(package: str) -> None:
    names = names_in(package)
    assert len(names) >= 6
    for name in names:
        assert resolve(name) is not None
