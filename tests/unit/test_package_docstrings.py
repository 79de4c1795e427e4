"""The ways of a row, a parameter and a request, as package docstrings tell them, lead through code that exists."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

PACKAGES = ("mlops_assets.ml", "mlops_assets.spec", "mlops_assets.serving")


def names(package: str) -> list[str]:
    """The dotted names in backticks, those of the package itself in full."""
    found = re.findall(r"`(\w+(?:\.\w+)+)`", importlib.import_module(package).__doc__ or "")
    return [name if name.startswith("mlops_assets.") else f"{package}.{name}" for name in found]


@pytest.mark.parametrize("name", [name for package in PACKAGES for name in names(package)])
def test_a_name_in_a_package_docstring_can_be_imported(name: str) -> None:
    pkgutil.resolve_name(name)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_docstring_names_what_a_reader_can_follow(package: str) -> None:
    assert len(names(package)) >= 6
